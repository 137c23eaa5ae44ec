"""What mirror images, scales, whitening (by shrinkage), fewer columns and float16 give.

    python examples/benchmarks/better_vectors.py DATA --model M.safetensors [--rows kept.npz]

DATA is what `cgd evaluate` takes. Each picture is decoded once, whole, and embedded by PyTorch in
all views; every line of the table is scored on those rows, all against all without self. Whitening
and PCA are learned on the same rows, without labels. `--rows` keeps what was embedded, and is read
instead of embedding where it is there. `cgd evaluate DATA --flip --scales ... --whiten --dim ...`
prints the ladder of one choice; this prints what the choice was made among.
"""

import argparse
from pathlib import Path

import numpy as np

from cgdcli import EmbedConfig, VectorConfig, load_model
from cgdcli.config.vectors import scales_of
from cgdcli.datasets.reading import read_evaluation_data
from cgdcli.engines.torch_engine import TorchEngine
from cgdcli.engines.vectors import average_views
from cgdcli.evaluation import embed_part, join_parts, score
from cgdcli.index.whitening import learn_projection
from cgdcli.judging.steps import StepsEngine

SHRINKAGES = (0.0, 0.01, 0.1, 0.3, 0.6)
DIMS = (512, 256, 128, 64)
FEWER = (5, 10, 20, 35, 50, 70)


def embedded(data: Path, model: str, scales: tuple[float, ...]) -> dict[str, np.ndarray]:
    """Rows of every single view, by scale, and of its mirror image; and the labels."""
    network = load_model(model)
    table, _ = read_evaluation_data(data)
    engine = TorchEngine(network)
    views = VectorConfig(flip=True, scales=scales)

    class Views(StepsEngine):
        def embed_sizes(self, pixels):
            return np.concatenate([row for pair in self.views(pixels) for row in pair], axis=1)

    every = Views([engine] * len(scales), views, network.config, ())
    part = embed_part(every, table, EmbedConfig(exact_decode=True), range(len(table)))
    found = join_parts([part])
    names = [f"{scale:g}{side}" for scale in views.scales for side in ("", " mirrored")]
    rows = dict(zip(names, np.split(found.rows, len(names), axis=1), strict=True))
    blocks = np.array(len(network.config.descriptors))
    return rows | {"labels": np.array(found.labels), "blocks": blocks}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("--model", required=True)
    parser.add_argument("--scales", default="0.7,1,1.4")
    parser.add_argument("--rows", type=Path)
    given = parser.parse_args()
    scales = scales_of(given.scales)
    if given.rows is not None and given.rows.exists():
        kept = dict(np.load(given.rows))
    else:
        kept = embedded(given.data, given.model, scales)
        if given.rows is not None:
            np.savez(given.rows, **kept)
    labels, blocks = kept.pop("labels").tolist(), int(kept.pop("blocks"))

    def line(name: str, rows: np.ndarray) -> None:
        found = score(rows, labels, (1, 2, 4, 8))
        shares = [*found.recall.values(), found.map_at_r or 0.0]
        figures = " | ".join(f"{100 * share:.2f}" for share in shares)
        size = rows.shape[1] * rows.dtype.itemsize
        print(f"| {name} | {rows.shape[1]} | {size} | {figures} |", flush=True)

    print("| rows | dim | bytes | R@1 | R@2 | R@4 | R@8 | mAP@R |\n|" + " --- |" * 8)
    plain = kept["1"]
    line("plain", plain)
    line("flip", average_views([plain, kept["1 mirrored"]], blocks))
    for scale in scales:
        line(f"scale {scale:g} alone", kept[f"{scale:g}"])
    line(f"scales {given.scales}", average_views([kept[f"{s:g}"] for s in scales], blocks))
    views = average_views(list(kept.values()), blocks)
    line("flip, scales", views)
    for name, rows in (("plain", plain), ("flip, scales", views)):
        line(f"{name}, float16", rows.astype(np.float16))
        whole = min(rows.shape[1], len(rows) // 2)
        for shrinkage in SHRINKAGES:
            learned = learn_projection(rows, whole, whiten=True, shrinkage=shrinkage)
            line(f"{name}, whitened, shrinkage {shrinkage:g}", learned.apply(rows))
        for dim in DIMS:
            if dim < whole:
                line(f"{name}, PCA", learn_projection(rows, dim, whiten=False).apply(rows))
                whitened = learn_projection(rows, dim, whiten=True).apply(rows)
                line(f"{name}, whitened", whitened)
                line(f"{name}, whitened, float16", whitened.astype(np.float16))
    fewer_classes(plain, np.array(labels))


def fewer_classes(rows: np.ndarray, labels: np.ndarray) -> None:
    """What whitening gives where there are fewer rows for its columns, of the first classes."""
    print("\n| rows | whitened to | R@1 plain | whitened | mAP@R plain | whitened |")
    print("|" + " --- |" * 6)
    classes = np.unique(labels)
    for count in FEWER:
        chosen = np.isin(labels, classes[:count])
        some, names = rows[chosen], labels[chosen].tolist()
        dim = min(rows.shape[1], len(some) * 9 // 10)  # some pictures are there twice
        whitened = learn_projection(some, dim, whiten=True).apply(some)
        a, b = score(some, names), score(whitened, names)
        shares = (a.recall[1], b.recall[1], a.map_at_r or 0.0, b.map_at_r or 0.0)
        figures = " | ".join(f"{100 * share:.2f}" for share in shares)
        print(f"| {len(some)} | {dim} | {figures} |", flush=True)


if __name__ == "__main__":
    main()
