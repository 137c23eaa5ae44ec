"""Pictures a second, JPEG files to `.npy`, against the reference's way, in fresh processes.

    python examples/benchmarks/embed_speed.py IMAGES --model M.safetensors [--pictures 600]
        [--turns 3] [--ways "fp32,bf16,int8"]

The reference's way is that of leftthomas/CGD's test.py: a DataLoader with two workers, PIL and
torchvision's transforms, the network eagerly in float32, `torch.cat`, here saved as `.npy`. It runs
our model, whose layers are the reference's. Ours is `cgd embed` (with the extra `fast`).

What is done once is not in the seconds, and stands beside: compiling, and for a reduced precision
calibrating and showing on a sample that it agrees. For that an index of SEED other pictures is made
first; what is timed is the same line on the grown list, which embeds all the rest.

All in turns; shown are medians of whole processes, imports included, and the median of the ratios
within each turn with the smallest and largest. Memory is the largest sum, looked at every quarter
of a second, over the process and the DataLoader's workers; shared pages count once (PSS).
"""

import argparse
import contextlib
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from cgdcli.images.finding import find_images

REFERENCE = """
import sys
import numpy as np, torch
from PIL import Image
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms
from cgdcli import load_model
files = open(sys.argv[1]).read().split("\\0")[:-1]
model = load_model(sys.argv[2]).eval()
transform = model.config.transform
size = (transform.image_size, transform.image_size)
prepare = transforms.Compose([transforms.Resize(size), transforms.ToTensor(),
                              transforms.Normalize(transform.mean, transform.std)])
class Pictures(Dataset):
    def __len__(self):
        return len(files)
    def __getitem__(self, i):
        return prepare(Image.open(files[i]).convert("RGB"))
rows = []
with torch.no_grad():
    for batch in DataLoader(Pictures(), batch_size=32, num_workers=2):
        rows.append(model(batch).embedding)
np.save(sys.argv[3], torch.cat(rows).numpy())
"""


def measured(command: list[str]) -> tuple[float, float]:
    """Seconds and megabytes of a process and its children; it must end well."""
    started = time.monotonic()
    process = subprocess.Popen(command)
    most = 0.0
    while process.poll() is None:
        most = max(most, sum(map(megabytes, (process.pid, *children(process.pid)))))
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(0.25)
    if process.returncode:
        raise SystemExit(f"{' '.join(command[:6])} ... ended with {process.returncode}")
    return time.monotonic() - started, most


def children(pid: int) -> list[int]:
    """Of all its threads: a worker belongs to the one that started it."""
    found: list[int] = []
    for thread in Path(f"/proc/{pid}/task").glob("*/children"):
        with contextlib.suppress(OSError):
            found += map(int, thread.read_text().split())
    return found


def megabytes(pid: int) -> float:
    """Resident now, pages shared with others counted by their share."""
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) / 1024
    return 0.0


SEED = 120


class Way:
    """One way to embed: its process, and what is to be in its place before it starts."""

    def __init__(self, command: list[str], output: Path, seed: Path | None = None) -> None:
        self.command, self.output, self.seed = command, output, seed

    def run(self) -> tuple[float, float]:
        if self.seed is not None:
            for suffix in (".npy", ".sqlite"):
                shutil.copyfile(self.seed.with_suffix(suffix), self.output.with_suffix(suffix))
        return measured(self.command)


def ways(given: argparse.Namespace, pictures: list[str], seed: list[str], folder: Path) -> dict:
    """The reference's and ours, and the seconds of what is done once."""
    lists = {"pictures": pictures, "seed": seed, "grown": [*seed, *pictures]}
    for name, files in lists.items():
        (folder / name).write_text("".join(f"{file}\0" for file in files))
    output = folder / "reference.npy"
    reference = [sys.executable, "-c", REFERENCE, str(folder / "pictures"), given.model]
    made = {"leftthomas/CGD's way": (Way([*reference, str(output)], output), None)}
    for name in given.ways.split(","):
        output = folder / f"{name}.npy"
        embed = [sys.executable, "-m", "cgdcli", "embed", "-0", "-q", "--model", given.model]
        embed += ["--engine", "openvino", "--precision", name]
        if name == "fp32":
            line = [*embed, "--files-from", str(folder / "pictures"), "--rebuild"]
            way = Way([*line, "-o", str(output)], output)
            made["cgd embed, fp32"] = way, way.run()[0]
            continue
        first = folder / f"{name}-seed.npy"
        once, _ = measured([*embed, "--files-from", str(folder / "seed"), "-o", str(first)])
        line = [*embed, "--files-from", str(folder / "grown"), "-o", str(output)]
        made[f"cgd embed, {name}"] = Way(line, output, first), once
    return made


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("images", type=Path, nargs="+")
    parser.add_argument("--model", required=True)
    parser.add_argument("--pictures", type=int, default=600)
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--ways", default="fp32,bf16,int8")
    given = parser.parse_args()
    found = [str(image.file) for image in find_images(given.images).images]
    wanted = given.pictures + SEED
    chosen = [found[i] for i in np.unique(np.linspace(0, len(found) - 1, wanted).astype(int))]
    seed = chosen[:: len(chosen) // SEED]
    pictures = sorted(set(chosen) - set(seed))
    with tempfile.TemporaryDirectory() as folder:
        made = ways(given, pictures, seed, Path(folder))
        results: dict[str, list[tuple[float, float]]] = {name: [] for name in made}
        for turn in range(given.turns):
            for name, (way, _) in made.items():
                results[name].append(way.run())
            print(f"turn {turn + 1} of {given.turns}", file=sys.stderr, flush=True)
        exact = np.load(Path(folder) / "reference.npy")
        base = [seconds for seconds, _ in results["leftthomas/CGD's way"]]
        print(f"{len(pictures)} pictures, {os.cpu_count()} cores\n")
        print("| way | seconds | times as fast | smallest, largest | MB | once | cosine |")
        print("| --- " * 7 + "|")
        for name, runs in results.items():
            way, once = made[name]
            ratios = np.array(base) / [seconds for seconds, _ in runs]
            # Lists are in byte order, and what an index has grown by stands at its end.
            cosine = np.vecdot(np.load(way.output)[-len(pictures) :], exact).min()
            print(
                f"| {name} | {statistics.median(s for s, _ in runs):.1f} | {np.median(ratios):.2f} "
                f"| {ratios.min():.2f}, {ratios.max():.2f} | "
                f"{statistics.median(mb for _, mb in runs):.0f} | "
                f"{'' if once is None else f'{once:.1f} s'} | {cosine:.6f} |"
            )


if __name__ == "__main__":
    main()
