"""Floor 5: rows in, hits out. Knows nothing of pictures or networks; no torch."""
