"""Floor 2: what is known of pictures: labels and splits. No torch, no picture opened."""
