"""Do two runs of `cgd profile` agree?

    python examples/benchmarks/profile_reproducible.py [--runs 20] [--image-size 112]

Each run is a fresh process. Counts must be equal in all of them. Of every two runs that follow each
other, the second's latency median should lie within the spread that the first printed; the share
that do is shown, with the largest ratio of two such medians.
"""

import argparse
import json
import statistics
import subprocess
import sys
from itertools import pairwise


def profile(options: list[str]) -> dict:
    """One report, of a process of its own."""
    command = [sys.executable, "-m", "cgdcli", "profile", "--json", *options]
    return json.loads(subprocess.run(command, check=True, capture_output=True).stdout)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=20)
    parser.add_argument("--image-size", default="112")
    arguments = parser.parse_args()
    options = ["--image-size", arguments.image_size, "--batch-size", "1,8"]
    reports = [profile(options) for _ in range(arguments.runs)]
    equal = all(report["counts"] == reports[0]["counts"] for report in reports)
    print(f"counts of {len(reports)} runs: {'all equal' if equal else 'NOT EQUAL'}")
    for i, size in enumerate((1, 8)):
        runs = [report["latency"][i] for report in reports]
        inside = [
            a["low_seconds"] <= b["median_seconds"] <= a["high_seconds"] for a, b in pairwise(runs)
        ]
        medians = [run["median_seconds"] for run in runs]
        apart = max(max(a, b) / min(a, b) for a, b in pairwise(medians))
        width = statistics.median(run["high_seconds"] / run["low_seconds"] for run in runs)
        print(
            f"batch {size}: {sum(inside)} of {len(inside)} next medians within the spread (which "
            f"is {width:.2f} x wide in the median); two that follow each other differ by up to "
            f"{apart:.2f} x"
        )
    sys.exit(not equal)


if __name__ == "__main__":
    main()
