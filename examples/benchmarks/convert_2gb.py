"""Memory and time of converting a checkpoint of 2 GB, beside copying the same file.

    python examples/benchmarks/convert_2gb.py [--gigabytes 2] [--repeats 3] [--folder DIR]

Two files are made: a ResNet-50 whose classifier has as many classes as fill the size, and a
training checkpoint with the optimizer's state beside a plain model. Each is converted in a fresh
process; its peak memory is the largest resident set, mapped pages of the file included. A copy is
`cp`, then fsync. Both read a file that lies in the page cache; medians of the repeats.
"""

import argparse
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch

from cgdcli.config import CGDConfig
from cgdcli.model.cgd import CGD
from cgdcli.weights.formats.reference import REFERENCE

# The process reads its own peak: what its parent is told of it begins with the parent's own.
_CONVERT = """
import sys
from pathlib import Path
from cgdcli.cli import main
code = main(sys.argv[1:])
status = Path("/proc/self/status").read_text().splitlines()
print(next(line for line in status if line.startswith("VmHWM")).split()[1])
sys.exit(code)
"""


def reference_state(classes: int) -> dict[str, torch.Tensor]:
    """A ResNet-50 CGD under the reference's names."""
    config = CGDConfig("resnet50", embedding_dim=1536, classes=classes)
    return {
        str(REFERENCE.name_there(name)): value for name, value in CGD(config).state_dict().items()
    }


def make_files(folder: Path, size: int) -> list[Path]:
    """The two checkpoints of about `size` bytes."""
    small = sum(t.numel() * t.element_size() for t in reference_state(1).values())
    wide, trained = folder / "wide.pth", folder / "trained.pth"
    torch.save(reference_state((size - small) // (4 * 2048)), wide)
    state = reference_state(98)
    moments = {i: torch.randn(size // 64 // 4) for i in range(64 - round(64 * small / size))}
    torch.save({"state_dict": state, "optimizer": {"state": moments}, "epoch": 20}, trained)
    return [wide, trained]


def convert(source: Path, target: Path) -> tuple[float, int]:
    """Seconds and peak bytes of one conversion in a process of its own."""
    arguments = ["convert-weights", str(source), "-q", "--force", "-o", str(target)]
    started = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-c", _CONVERT, *arguments],
        capture_output=True,
        text=True,
        check=True,
    )
    return time.perf_counter() - started, int(done.stdout.split()[-1]) * 1024


def copy(source: Path, target: Path) -> float:
    """Seconds of `cp` and fsync."""
    started = time.perf_counter()
    shutil.copyfile(source, target)
    descriptor = os.open(target, os.O_RDONLY)
    os.fsync(descriptor)
    os.close(descriptor)
    return time.perf_counter() - started


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--gigabytes", type=float, default=2.0)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--folder", type=Path, help="where to put the files; needs thrice the size")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=arguments.folder) as temporary:
        folder = Path(temporary)
        started = convert(make_files(folder, 200_000_000)[0], folder / "new.safetensors")[0]
        print(f"starting and converting 0.2 GB: {started:.1f} s")
        for source in make_files(folder, int(arguments.gigabytes * 1e9)):
            size = source.stat().st_size
            runs, copies = [], []
            for _ in range(arguments.repeats):
                copies.append(copy(source, folder / "copy"))
                (folder / "copy").unlink()
                runs.append(convert(source, folder / "new.safetensors"))
            seconds = statistics.median(time for time, _ in runs)
            copied = statistics.median(copies)
            peak = max(peak for _, peak in runs)
            print(
                f"{source.name}: {size / 1e9:.2f} GB, peak memory {peak / size:.2f} x the file, "
                f"{seconds:.1f} s, a copy {copied:.1f} s: {seconds / copied:.2f} x"
            )
            source.unlink()


if __name__ == "__main__":
    main()
