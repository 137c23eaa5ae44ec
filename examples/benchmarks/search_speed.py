"""Search against other ways to do it, each in fresh processes, at several sizes.

    python examples/benchmarks/search_speed.py [--sizes 10000,100000,1000000] [--repeats 5]
        [--approximate] [--rclip PYTHON]

- cgd: `cgd search row:N ... --json`, the whole command.
- NumPy: `np.load` mapped, a product with all rows, `argpartition`.
- faiss flat: `IndexFlatIP` of the rows (extra `ann`).
- the reference's way: leftthomas/CGD's test.py and utils.py: `torch.load` of all vectors,
  `torch.cdist` of the queries with all of them, `topk`. It needs the vectors as a .pth beside.
- approximate (with --approximate): `cgd index` once, then as cgd.
- rclip (with --rclip, a Python that has it; it wants another NumPy than cgd): its own database and
  its own `search`, given the vector where it would compute one of a text, so that its network is
  never loaded. One query a process, as its command has it.

clip-retrieval's search is faiss's, behind a server.

One query, and 100. Wall seconds of the whole process, imports included, and its largest resident
set, of which mapped pages of the file are a part. Medians; everything in turns, of which the first
is not counted; files in the page cache. The 10 nearest are compared with cgd's.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import torch

from cgdcli import ApproximateConfig, index_approximately
from cgdcli.index.rows import RowWriter

WAYS = {
    "NumPy": """
import numpy as np
rows = np.load(file, mmap_mode="r")
scores = np.asarray(rows[numbers]) @ rows.T
best = np.argpartition(-scores, 10, axis=1)[:, :10]
ids = [sorted(b.tolist(), key=lambda i, s=s: -s[i]) for b, s in zip(best, scores)]
""",
    "faiss flat": """
import faiss, numpy as np
rows = np.load(file)
index = faiss.IndexFlatIP(rows.shape[1])
index.add(rows)
ids = index.search(rows[numbers], 10)[1].tolist()
""",
    "the reference's way": """
import torch
rows = torch.load(file[:-3] + "pth", weights_only=True)
distances = torch.cdist(rows[numbers].unsqueeze(0), rows.unsqueeze(0)).squeeze(0)
ids = distances.topk(10, dim=-1, largest=False)[1].tolist()
""",
}
# Filled once, by rclip's own code.
RCLIP_MAKE = """
import json, sys
import numpy as np
from rclip.db import DB, NewImage
rows, database = np.load(sys.argv[1], mmap_mode="r"), DB(sys.argv[1][:-3] + "rclip")
for number, row in enumerate(rows):
    picture = NewImage(filepath=f"/pictures/{number}.jpg", modified_at=0, size=0,
                       vector=row.tobytes(), hash=None)
    database.upsert_image(picture, commit=False)
database.close()
"""
RCLIP = """
import numpy as np
from rclip.db import DB
from rclip.main import RClip
from rclip.model import Model

class Given(Model):
    def compute_features_for_queries(self, queries):
        return np.load(file, mmap_mode="r")[numbers[0]] if queries else np.zeros(512, np.float32)

rclip = RClip(Given(), DB(file[:-3] + "rclip"), 8, None)
found = rclip.search("picture", "/pictures", 10)
ids = [[int(hit.filepath[10:-4]) for hit in found]]
"""
HEAD = "import json, sys\nfile, numbers = sys.argv[1], json.loads(sys.argv[2])\n"


def make(path: Path, rows: int, dim: int) -> None:
    """Clustered unit rows, as pictures of classes give them, and the same as a .pth."""
    rng = np.random.default_rng(0)
    centres = rng.standard_normal((max(10, rows // 200), 64), dtype=np.float32)
    spread = rng.standard_normal((64, dim), dtype=np.float32) / 8
    writer = RowWriter(path, dim)
    for start in range(0, rows, 20_000):
        count = min(20_000, rows - start)
        block = centres[rng.integers(0, len(centres), count)] @ spread
        block += 0.5 * rng.standard_normal((count, dim), dtype=np.float32)
        writer.append(block / np.linalg.norm(block, axis=1, keepdims=True))
    writer.finish()
    torch.save(torch.from_numpy(np.load(path)), path.with_suffix(".pth"))


# A process begins with what its parent had resident; this one has little.
TIMED = """
import json, os, subprocess, sys, time
begun = time.monotonic()
process = subprocess.Popen(sys.argv[1:], stdout=subprocess.PIPE)
out = process.stdout.read()
_, status, usage = os.wait4(process.pid, 0)
print(json.dumps([status, time.monotonic() - begun, usage.ru_maxrss / 1024, json.loads(out)]))
"""


def measured(line: list[str]) -> tuple[float, float, list[list[int]]]:
    """Seconds, megabytes and ids of a process."""
    told = subprocess.check_output([sys.executable, "-S", "-c", TIMED, *line])
    status, seconds, megabytes, found = json.loads(told)
    if status:
        raise SystemExit(f"{line[:4]} ended with {status}")
    if found and isinstance(found[0], dict):
        found = [[hit["row"] for hit in answer["hits"]] for answer in found]
    return seconds, megabytes, found


def lines(
    path: Path, numbers: list[int], approximate: bool, rclip: str | None
) -> dict[str, list[str]]:
    """The command of each way."""
    search = [sys.executable, "-m", "cgdcli", "search", *(f"row:{n}" for n in numbers)]
    search += ["--index", str(path), "--json", "-q"]
    found = {"cgd": [*search, "--exact"]}
    if approximate:
        found["cgd, approximate"] = search
    for name, text in WAYS.items():
        script = f"{HEAD}{text}print(json.dumps(ids))"
        found[name] = [sys.executable, "-c", script, str(path), json.dumps(numbers)]
    if rclip and len(numbers) == 1:
        script = f"{HEAD}{RCLIP}print(json.dumps(ids))"
        found["rclip"] = [rclip, "-c", script, str(path), json.dumps(numbers)]
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sizes", default="10000,100000,1000000")
    parser.add_argument("--dim", type=int, default=512)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--approximate", action="store_true")
    parser.add_argument("--rclip", metavar="PYTHON", help="with rclip 3 in it; 512 columns")
    given = parser.parse_args()
    # Where it is installed Python compiles a package once; a checkout may be told not to keep that.
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    print(f"{os.cpu_count()} cores, {given.dim} columns\n")
    print("| rows | queries | way | seconds | times as long as cgd | MB | the same 10 |")
    print("| --- " * 7 + "|")
    for rows in map(int, given.sizes.split(",")):
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "rows.npy"
            make(path, rows, given.dim)
            if given.rclip:
                subprocess.run([given.rclip, "-c", RCLIP_MAKE, str(path)], check=True)
            if given.approximate and rows >= 100_000:
                report = index_approximately(path, ApproximateConfig())
                print(
                    f"<!-- {rows}: {report.faiss}, made in {report.seconds:.0f} s, "
                    f"{report.bytes / 1e6:.0f} MB, recall {report.recall:.4f}, "
                    f"{report.queries_per_second:.0f} queries/s, exact "
                    f"{report.exact_per_second:.1f} -->"
                )
            for count in (1, 100):
                numbers = np.linspace(0, rows - 1, count + 2).astype(int)[1:-1].tolist()
                approximate = given.approximate and rows >= 100_000
                ways = lines(path, numbers, approximate, given.rclip)
                compare(rows, count, given.repeats, ways)


def compare(rows: int, count: int, repeats: int, ways: dict[str, list[str]]) -> None:
    runs: dict[str, list[tuple[float, float, list[list[int]]]]] = {name: [] for name in ways}
    for turn in range(-1, repeats):
        for name, line in ways.items():
            run = measured(line)
            if turn >= 0:
                runs[name].append(run)
    base = statistics.median(run[0] for run in runs["cgd"])
    exact = runs["cgd"][0][2]
    for name, found in runs.items():
        seconds = statistics.median(run[0] for run in found)
        same = np.mean([len({*a} & {*b}) / 10 for a, b in zip(found[0][2], exact, strict=True)])
        print(
            f"| {rows} | {count} | {name} | {seconds:.2f} | {seconds / base:.2f} | "
            f"{max(run[1] for run in found):.0f} | {same:.3f} |"
        )


if __name__ == "__main__":
    main()
