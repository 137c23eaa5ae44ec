"""Floor 1: the network. Read `cgd.py` first."""
