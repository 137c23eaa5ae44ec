"""What each part of the default recipe is worth, on classes held out of TRAIN.

    python examples/benchmarks/train_ablation.py DATA/train --backbone-weights W.safetensors \\
        [--image-size 112] [--epochs 25] [--seeds 0] [--variants base,layer4] [--out FOLDER]

A third of the classes, drawn by the seed, is held out; test classes are never looked at. Every
variant gets the time of `base`: where its steps cost something else, its epochs are scaled by what
a step of each takes, measured in turns before it trains. Judged once, at the end. Each run adds a
line to results.jsonl; the table of all lines is printed at the end, with differences to `base` at
the same seed, so the same classes.
"""

import argparse
import json
import statistics
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

from cgdcli import CGD, TrainConfig, train
from cgdcli.config import Precision
from cgdcli.datasets.reading import read_training_data
from cgdcli.training.choices import step_seconds

# Settings that change what a step costs; the epochs of a variant that has none are the base's.
COSTLY = ("stride", "descriptors", "embedding_dim", "batch_size", "batch_norm", "backbone")

VARIANTS: dict[str, dict[str, Any]] = {
    "base": {},
    "layer4": {"stride": "layer4"},
    "torchvision's strides": {"stride": "standard"},
    "projections see the mean": {"head_start": "orthogonal"},
    "projections learn": {"head_rate": 0.6},
    "projections learn, drawn uniform": {"head_rate": 0.6, "head_start": "uniform"},
    "weight decay": {"weight_decay": 0.05},
    "BatchNorm trained": {"batch_norm": "trained"},
    "no triplet": {"ranking_weight": 0.0},
    "no class loss": {"class_weight": 0.0},
    "no proxies": {"proxy_weight": 0.0},
    "no average": {"ema": 0.0},
    "no warm-up": {"warm": 0.0},
    "erasing": {"erasing": 0.5},
    "crops of half": {"crop_scale": 0.5},
    "crops of a sixth": {"crop_scale": 0.16},
    "the reference's crop": {"crop_scale": 1.0},
    "proxies at 0.05": {"proxy_temperature": 0.05},
    "proxies at 0.1": {"proxy_temperature": 0.1},
    "a sixteenth of the rate, proxies at a hundred times it": {
        "learning_rate": 1e-4,
        "classifier_rate": 10.0,
        "proxy_rate": 100.0,
    },
    "half the rate": {"learning_rate": 8e-4, "classifier_rate": 1.2, "proxy_rate": 12.0},
    "twice the rate": {"learning_rate": 3.2e-3, "classifier_rate": 0.3, "proxy_rate": 3.0},
    "batch of 32": {"batch_size": 32},
    "batch of 128": {"batch_size": 128},
    "M and G": {"descriptors": "MG"},
    "S, M and G": {"descriptors": "SMG", "embedding_dim": 513},
    "S and R": {"descriptors": "SR"},
    "S and W": {"descriptors": "SW"},
}


def equal_epochs(base: TrainConfig, variant: TrainConfig, classes: int) -> int:
    """Epochs of the variant that take as long as the base's, by steps measured in turns."""
    seconds: dict[str, list[float]] = {"base": [], "variant": []}
    for _ in range(3):
        for name, config in (("base", base), ("variant", variant)):
            model = CGD(config.model_config(classes))
            seconds[name].append(
                step_seconds(model, config, config.batch_size, Precision.bf16) / config.batch_size
            )
    ratio = statistics.median(seconds["base"]) / statistics.median(seconds["variant"])
    return max(1, round(base.epochs * ratio))


def run(data: Path, name: str, config: TrainConfig, base: TrainConfig) -> dict[str, Any]:
    """One variant, one seed."""
    held = read_training_data(data, val_fraction=base.val_fraction, seed=config.seed)
    if any(getattr(config, field) != getattr(base, field) for field in COSTLY):
        config = replace(config, epochs=equal_epochs(base, config, len(held.train.classes)))
    with tempfile.TemporaryDirectory() as runs:
        report = train(data, config, runs=runs, name="run")
    assert report.evaluation is not None and report.judged_on == "held-out classes"
    return {
        "variant": name,
        "seed": config.seed,
        "epochs": config.epochs,
        "seconds": round(report.seconds),
        "pictures": report.evaluation.queries,
        "recall@1": round(100 * report.evaluation.recall[1], 2),
        "map@r": round(100 * (report.evaluation.map_at_r or 0), 2),
    }


def table(results: list[dict[str, Any]]) -> str:
    """Markdown: means over seeds, and the paired difference to base."""
    base = {r["seed"]: r for r in results if r["variant"] == "base"}
    lines = ["| variant | seeds | epochs | R@1 | mAP@R | to base, mAP@R |", "| --- " * 6 + "|"]
    for name in dict.fromkeys(r["variant"] for r in results):
        mine = [r for r in results if r["variant"] == name]
        gains = [r["map@r"] - base[r["seed"]]["map@r"] for r in mine if r["seed"] in base]
        paired = f"{statistics.mean(gains):+.2f}" if gains else "-"
        if len(gains) > 1:
            paired += f" +- {statistics.stdev(gains):.2f}"
        means = [statistics.mean(r[key] for r in mine) for key in ("recall@1", "map@r")]
        lines.append(
            f"| {name} | {len(mine)} | {mine[0]['epochs']} | {means[0]:.2f} | {means[1]:.2f} | "
            f"{paired} |"
        )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("--backbone-weights", required=True)
    parser.add_argument("--image-size", type=int, default=112)
    parser.add_argument("--epochs", type=int, default=25)
    parser.add_argument("--seeds", default="0")
    parser.add_argument("--variants", default=",".join(VARIANTS))
    parser.add_argument("--out", type=Path, default=Path("ablation"))
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    file = given.out / "results.jsonl"
    base = TrainConfig.resolved(
        {
            "backbone_weights": given.backbone_weights,
            "image_size": given.image_size,
            "epochs": given.epochs,
            "val_fraction": 0.33,
            "evaluations": 1,
            "precision": "bf16",
        }
    )
    for seed in map(int, given.seeds.split(",")):
        for name in given.variants.split(","):
            said = {f: getattr(base, f) for f in base.__dataclass_fields__} | VARIANTS[name]
            config = TrainConfig.resolved(said | {"seed": seed})
            result = run(given.data, name, config, base)
            print(json.dumps(result), flush=True)
            with file.open("a") as lines:
                lines.write(json.dumps(result) + "\n")
    print(table([json.loads(line) for line in file.read_text().splitlines()]))


if __name__ == "__main__":
    main()
