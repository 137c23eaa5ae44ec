"""Pictures a second, JPEG files to `.npy`, against the reference's way, in fresh processes.

    python examples/benchmarks/embed_speed.py IMAGES --model M.safetensors [--pictures 600]
        [--turns 3] [--ways "fp32,bf16"]

The reference's way is that of leftthomas/CGD's test.py: a DataLoader with two workers, PIL and
torchvision's transforms, the network eagerly in float32, `torch.cat`, here saved as `.npy`. It runs
our model, whose layers are the reference's. Ours is `cgd embed` (with the extra `fast`); what
compiling costs the first time is not in its seconds, and stands beside.

All in turns; shown are medians of whole processes, imports included, and the median of the ratios
within each turn with the smallest and largest. Memory is the largest resident set of the main
process, the DataLoader's workers not counted.
"""

import argparse
import os
import statistics
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
    """Seconds and megabytes of a process; it must end well."""
    started = time.monotonic()
    process = os.posix_spawn(command[0], command, os.environ)
    _, status, usage = os.wait4(process, 0)
    if status:
        raise SystemExit(f"{' '.join(command[:6])} ... ended with {status}")
    return time.monotonic() - started, usage.ru_maxrss / 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("images", type=Path)
    parser.add_argument("--model", required=True)
    parser.add_argument("--pictures", type=int, default=600)
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--ways", default="fp32,bf16")
    given = parser.parse_args()
    found = [str(image.file) for image in find_images([given.images]).images]
    places = np.unique(np.linspace(0, len(found) - 1, given.pictures).astype(int))
    ways = given.ways.split(",")
    with tempfile.TemporaryDirectory() as folder:
        listed = Path(folder) / "list"
        listed.write_text("".join(f"{found[i]}\0" for i in places))
        reference = [sys.executable, "-c", REFERENCE, str(listed), given.model, f"{folder}/r.npy"]
        embed = [sys.executable, "-m", "cgdcli", "embed", "--files-from", str(listed), "-0", "-q"]
        embed += ["--model", given.model, "--rebuild", "--engine", "openvino"]
        commands = {"leftthomas/CGD's way": reference} | {
            f"cgd embed, {way}": [*embed, "--precision", way, "-o", f"{folder}/{way}.npy"]
            for way in ways
        }
        first = {name: measured(command)[0] for name, command in commands.items()}
        results: dict[str, list[tuple[float, float]]] = {name: [] for name in commands}
        for turn in range(given.turns):
            for name, command in commands.items():
                results[name].append(measured(command))
            print(f"turn {turn + 1} of {given.turns}", file=sys.stderr, flush=True)
        wanted = np.load(f"{folder}/r.npy")
        base = [seconds for seconds, _ in results["leftthomas/CGD's way"]]
        print(f"{len(places)} pictures, {os.cpu_count()} cores\n")
        print("| way | seconds | times as fast | smallest, largest | MB | first time | cosine |")
        print("| --- " * 7 + "|")
        for name, runs in results.items():
            ratios = np.array(base) / [seconds for seconds, _ in runs]
            rows = np.load(commands[name][-1])
            # The list is in byte order already, so rows are in the same order.
            cosine = np.vecdot(rows, wanted).min()
            print(
                f"| {name} | {statistics.median(s for s, _ in runs):.1f} | {np.median(ratios):.2f} "
                f"| {ratios.min():.2f}, {ratios.max():.2f} | "
                f"{statistics.median(mb for _, mb in runs):.0f} | {first[name]:.1f} s | "
                f"{cosine:.6f} |"
            )


if __name__ == "__main__":
    main()
