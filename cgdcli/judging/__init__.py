"""What a run's last judgement tells beyond its figures: its page, and how two runs differ."""
