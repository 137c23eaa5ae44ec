import sys
from pathlib import Path

for name in ("auditing", "judging", "jobs"):
    sys.path.insert(0, str(Path(__file__).parents[1] / name))
