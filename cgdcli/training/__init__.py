"""Floor 6: training. `loop.py` is the run; the rest are its parts."""
