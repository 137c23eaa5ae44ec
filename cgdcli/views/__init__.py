"""Floor 7: a report in, something to look at out. No torch."""
