"""Train by the reference's own code on folders of classes, and judge it as it judges itself.

    git clone https://github.com/leftthomas/CGD REFERENCE
    python examples/benchmarks/train_reference.py DATA --reference REFERENCE --weights W.safetensors
        [--backbone resnet18] [--image-size 112] [--embedding-dim 512] [--epochs 20] [--every 5]

DATA has `train` and `test`, folders of classes. W are the backbone's ImageNet weights under
torchvision's names. Adam at 1e-4, a tenth of it after 60 and 80 % of the epochs, batches of 128,
four pictures a class, as there; repaired as `train_speed.py` says. Printed is, every so many
epochs, the time spent in training so far, and the test classes' Recall@1, 2, 4 and 8.

What `cgd` does in the same time on the same machine:

    cgd train DATA --image-size 112 --backbone-weights W.safetensors --minutes M --val-fraction 0
"""

import argparse
import shutil
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from train_speed import Reference, the_reference, write_its_lists

from cgdcli.datasets.folders import read_class_folders
from cgdcli.images.loading import worker_count

RANKS = [1, 2, 4, 8]
# Places of torchvision's parts in the reference's `features`: a Sequential without names.
PLACES = {"conv1": 0, "bn1": 1, "layer1": 4, "layer2": 5, "layer3": 6, "layer4": 7}


def load_backbone(net: Any, weights: Path) -> None:
    """ImageNet weights, as `pretrained=True` would bring them."""
    found = {}
    for name, tensor in load_file(weights).items():
        part, _, rest = name.partition(".")
        if part in PLACES:
            found[f"{PLACES[part]}.{rest}"] = tensor.float()
    net.features.load_state_dict(found)


@torch.no_grad()
def judge(reference: Reference, folder: Path, given: argparse.Namespace) -> list[float]:
    """The lines of its `test`, of the test classes."""
    data = reference.utils.ImageReader(str(folder), "car", "test", "uncropped")
    reference.net.eval()
    loader = torch.utils.data.DataLoader(data, given.batch_size, num_workers=given.workers)
    rows = torch.cat([reference.net(inputs.to(given.device))[0] for inputs, _ in loader])
    return [100 * part for part in reference.utils.recall(rows, data.labels, RANKS)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("--reference", type=Path, required=True)
    parser.add_argument("--weights", type=Path, required=True)
    parser.add_argument("--backbone", default="resnet18", choices=["resnet18", "resnet50"])
    parser.add_argument("--image-size", type=int, default=112)
    parser.add_argument("--embedding-dim", type=int, default=512)
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--every", type=int, default=5)
    parser.add_argument("--workers", type=int, default=worker_count(0))
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    given = parser.parse_args()
    train, test = (read_class_folders(given.data / split) for split in ("train", "test"))
    if 4 * len(train.classes) < given.batch_size:
        raise SystemExit(f"{len(train.classes)} classes; the reference's sampler would never end")
    torch.manual_seed(0)
    folder = Path(tempfile.mkdtemp())
    try:
        reference = the_reference(given, train, folder)
        write_its_lists(folder, train=train, test=test)
        load_backbone(reference.net, given.weights)
        milestones = [int(0.6 * given.epochs), int(0.8 * given.epochs)]
        schedule = torch.optim.lr_scheduler.MultiStepLR(reference.optimizer, milestones, gamma=0.1)
        spent = 0.0
        print("epoch, seconds of training, " + ", ".join(f"R@{rank}" for rank in RANKS), flush=True)
        for epoch in range(given.epochs + 1):
            if epoch:
                started = time.monotonic()
                pictures = sum(reference.epoch())
                schedule.step()
                spent += time.monotonic() - started
                print(f"# {epoch}: {pictures} pictures, {spent:.0f} s", flush=True)
            if epoch % given.every == 0 or epoch == given.epochs:
                recalls = ", ".join(f"{part:.2f}" for part in judge(reference, folder, given))
                print(f"{epoch}, {spent:.0f}, {recalls}", flush=True)
    finally:
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()
