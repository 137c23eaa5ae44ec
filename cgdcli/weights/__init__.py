"""Floor 3: reading and writing parameters."""
