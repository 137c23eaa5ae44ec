"""Floor 2: pictures as uint8 arrays. No torch."""
