"""Jobs: what is odd in an index as a collection of pictures."""
