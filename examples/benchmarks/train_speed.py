"""Pictures a second while training, against the reference's own code on the same pictures.

    git clone https://github.com/leftthomas/CGD REFERENCE
    python examples/benchmarks/train_speed.py DATA [--reference REFERENCE] [--backbone resnet18]
        [--image-size 112] [--batch-size 128] [--turns 5] [--batches 8] [--device cpu]

DATA is a folder of classes, at least a quarter as many as a batch has pictures (the reference's
sampler never ends with fewer). Timed is the whole of a step: reading, augmentation, forward and
backward pass, optimizer, the figures that are shown. The reference is its own Dataset, sampler,
model, losses and the lines of its training loop, from a repaired copy in a temporary folder: it was
written for NumPy and torchvision of 2020; sizes and backbone are set where it has them as numbers.
Weights are random on both sides, which costs the same.

All are measured in turns, each from fresh workers, after some batches that are not counted; shown
are medians over the turns, and the median of the ratios within each turn, with the smallest and the
largest. Without the reference they are to the first line. Ours keeps decoded pictures in memory;
what the first pass over them takes stands beside.
"""

import argparse
import importlib
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from cgdcli import CGD, TrainConfig
from cgdcli.config import Precision
from cgdcli.datasets.folders import read_class_folders
from cgdcli.datasets.table import ImageTable
from cgdcli.images.cache import MemoryStore
from cgdcli.images.loading import read_ahead, worker_count
from cgdcli.training.batches import BatchReader
from cgdcli.training.choices import picture_side
from cgdcli.training.learner import Learner
from cgdcli.training.sampler import ClassBatches

UNTIMED = 3
# What the reference needs to run today, and where it has a size or a backbone as a number.
REPAIRS = {
    "resnet.py": {"from torchvision.models.utils import": "from torch.hub import"},
    "utils.py": {"np.int)": "int)", "np.in1d": "np.isin"},
}
OURS: dict[str, dict[str, Any]] = {
    "the reference's recipe, layer3, fp32": {"recipe": "reference"},
    "layer3, fp32": {"stride": "layer3", "precision": "fp32"},
    "layer3, bf16": {"stride": "layer3", "precision": "bf16"},
    "standard strides, fp32": {"stride": "standard", "precision": "fp32"},
    "standard strides, bf16": {"stride": "standard", "precision": "bf16"},
}
Steps = Iterator[int]
"""Each item is a step made, and how many pictures it had."""


@dataclass
class Contestant:
    """Something whose steps are timed; `begin` starts anew, as at an epoch's beginning."""

    name: str
    begin: Callable[[], Steps]


def repaired_copy(reference: Path, target: Path, backbone: str, image_size: int) -> None:
    """The reference's modules as they run today, at this size and with this backbone."""
    channels = 512 if backbone in ("resnet18", "resnet34") else 2048
    changes = {
        **REPAIRS,
        "utils.py": REPAIRS["utils.py"]
        | {
            "Resize((252, 252))": f"Resize(({image_size * 9 // 8}, {image_size * 9 // 8}))",
            "RandomCrop(224)": f"RandomCrop({image_size})",
            "Resize((224, 224))": f"Resize(({image_size}, {image_size}))",
        },
        "model.py": {
            "from resnet import resnet50, resnext50_32x4d": f"from resnet import {backbone}",
            "resnet50(pretrained=True) if backbone_type == 'resnet50' else "
            "resnext50_32x4d(pretrained=True)": f"{backbone}(pretrained=False)",
            "2048": str(channels),
        },
    }
    for name, replacements in changes.items():
        text = (reference / name).read_text()
        for old, new in replacements.items():
            if old not in text:
                raise SystemExit(f"{reference / name} is not the reference's: no {old!r} in it")
            text = text.replace(old, new)
        (target / name).write_text(text)


@dataclass
class Reference:
    """The reference's own parts; `epoch` is its training loop over them."""

    net: Any
    optimizer: torch.optim.Optimizer
    utils: Any
    epoch: Callable[[], Steps]


def the_reference(given: argparse.Namespace, table: ImageTable, folder: Path) -> Reference:
    """Its Dataset, sampler, model and losses, from a repaired copy in an empty folder."""
    repaired_copy(given.reference, folder, given.backbone, given.image_size)
    sys.path.insert(0, str(folder))
    model, utils = importlib.import_module("model"), importlib.import_module("utils")
    write_its_lists(folder, train=table)
    data = utils.ImageReader(str(folder), "car", "train", "uncropped")
    net = model.Model(given.backbone, "SG", given.embedding_dim, len(data.class_to_idx))
    net = net.to(given.device)
    optimizer = torch.optim.Adam(net.parameters(), lr=1e-4)
    class_criterion = utils.LabelSmoothingCrossEntropyLoss(smoothing=0.1, temperature=0.5)
    feature_criterion = utils.BatchHardTripletLoss(margin=0.1)

    def epoch() -> Steps:
        net.train()
        net.apply(model.set_bn_eval)
        sampler = utils.MPerClassSampler(data.labels, given.batch_size)
        loader = torch.utils.data.DataLoader(data, batch_sampler=sampler, num_workers=given.workers)
        total_loss, total_correct = 0.0, 0.0
        for batch in loader:
            inputs, labels = (part.to(given.device) for part in batch)
            features, classes = net(inputs)
            loss = class_criterion(classes, labels) + feature_criterion(features, labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            total_loss += loss.item() * inputs.size(0)
            total_correct += torch.sum(torch.argmax(classes, dim=-1) == labels).item()
            yield len(labels)

    return Reference(net, optimizer, utils, epoch)


def write_its_lists(folder: Path, **splits: ImageTable) -> None:
    """The file in which it looks for the pictures of each split, by class."""
    place = folder / "car"
    place.mkdir(exist_ok=True)
    lists: dict[str, dict[str, list[str]]] = {}
    for split, table in splits.items():
        pictures = lists.setdefault(split, {})
        for path, label in zip(table.paths, table.labels, strict=True):
            pictures.setdefault(label, []).append(str(path))
    torch.save(lists, place / "uncropped_data_dicts.pth")


def ours(given: argparse.Namespace, table: ImageTable, name: str, store: MemoryStore) -> Contestant:
    """Our steps, the backbone learning, on pictures of one store."""
    config = TrainConfig.resolved(
        OURS[name]
        | {
            "backbone": given.backbone,
            "image_size": given.image_size,
            "embedding_dim": given.embedding_dim,
            "batch_size": given.batch_size,
            "workers": given.workers,
        }
    )
    batches = ClassBatches(table.class_indices, batch_size=given.batch_size, per_class=4, seed=0)
    side = picture_side(config)
    pin = given.device == "cuda"
    reader = BatchReader(table, batches, config, side=side, pin=pin)
    reader.keep_in(store)
    model = CGD(config.model_config(len(table.classes))).to(given.device)
    precision = Precision.bf16 if config.precision is Precision.bf16 else Precision.fp32
    learner = Learner(model, config, steps=1000, precision=precision)
    epochs = iter(range(1, 1_000_000))

    def begin() -> Steps:
        learner.to_training()
        for batch in reader.epoch(next(epochs)):
            # Step 500 of 1000: half-way, past the warm-up.
            learner.step(batch.pixels, batch.labels, 500, batch.sizes)
            yield sum(batch.sizes)

    return Contestant(f"cgd: {name}", begin)


def pictures_a_second(contestant: Contestant, batches: int, device: str) -> float:
    """One turn."""
    steps, shown = contestant.begin(), 0
    for _ in range(UNTIMED):
        next(steps)
    wait(device)
    started = time.perf_counter()
    for _ in range(batches):
        shown += next(steps)
    wait(device)
    seconds = time.perf_counter() - started
    steps.close()  # type: ignore[attr-defined]
    return shown / seconds


def wait(device: str) -> None:
    if device == "cuda":
        torch.cuda.synchronize()


def fill(table: ImageTable, given: argparse.Namespace) -> tuple[MemoryStore, float]:
    """Every picture decoded and kept; pictures a second of that."""
    store = MemoryStore()
    config = TrainConfig(image_size=given.image_size, workers=given.workers)
    batches = ClassBatches(table.class_indices, batch_size=2, per_class=2, seed=0)
    reader = BatchReader(table, batches, config, side=picture_side(config))
    reader.keep_in(store)
    started = time.perf_counter()
    list(read_ahead(reader.pictures.picture, table.paths, workers=given.workers))
    return store, len(table) / (time.perf_counter() - started)


def machine(device: str) -> str:
    if device == "cuda":
        return f"{torch.cuda.get_device_name()}, torch {torch.__version__}"
    about = Path("/proc/cpuinfo")
    lines = about.read_text().splitlines() if about.exists() else []
    name = next((line.split(": ")[1] for line in lines if line.startswith("model name")), "a CPU")
    return f"{name}, {torch.get_num_threads()} threads, torch {torch.__version__}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("--reference", type=Path)
    parser.add_argument("--backbone", default="resnet18", choices=["resnet18", "resnet50"])
    parser.add_argument("--image-size", type=int, default=112)
    parser.add_argument("--embedding-dim", type=int, default=512)
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--batches", type=int, default=8)
    parser.add_argument("--workers", type=int, default=worker_count(0))
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    given = parser.parse_args()
    table = read_class_folders(given.data)
    if 4 * len(table.classes) < given.batch_size:
        raise SystemExit(f"{len(table.classes)} classes; the reference's sampler would never end")
    if len(table) // given.batch_size < UNTIMED + given.batches:
        raise SystemExit("an epoch has too few batches: fewer --batches, or a smaller --batch-size")
    folder = Path(tempfile.mkdtemp())
    try:
        store, decoded = fill(table, given)
        all_of_them = []
        if given.reference:
            all_of_them += [Contestant("leftthomas/CGD", the_reference(given, table, folder).epoch)]
        all_of_them += [ours(given, table, name, store) for name in OURS]
        speeds: dict[str, list[float]] = {one.name: [] for one in all_of_them}
        for turn in range(given.turns):
            for one in all_of_them:
                speeds[one.name].append(pictures_a_second(one, given.batches, given.device))
            print(f"turn {turn + 1} of {given.turns}", file=sys.stderr, flush=True)
    finally:
        shutil.rmtree(folder)
    print(
        f"{given.backbone}, SG, {given.embedding_dim}-d, {given.image_size} px, batches of "
        f"{given.batch_size}, {len(table)} pictures; {machine(given.device)}; the first pass "
        f"decodes {decoded:.0f} pictures/s\n"
    )
    base_name, base = next(iter(speeds.items()))
    print(f"| steps of | pictures/s | times {base_name} | smallest, largest |")
    print("| --- " * 4 + "|")
    for name, found in speeds.items():
        ratios = np.divide(found, base)
        print(
            f"| {name} | {statistics.median(found):.1f} | {np.median(ratios):.2f} | "
            f"{ratios.min():.2f}, {ratios.max():.2f} |"
        )


if __name__ == "__main__":
    main()
