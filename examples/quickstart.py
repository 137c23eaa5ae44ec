"""From nothing to a searchable index: draw pictures, train, embed, search, all on this machine.

    python examples/quickstart.py [FOLDER]

Takes half a minute on two idle cores. Leaves in FOLDER (default `quickstart`): the pictures, the
run, the index and `sheet.png`. The classes that are searched are none of those trained on.
"""

import sys
from pathlib import Path

from draw_pictures import draw_classes

from cgdcli import SearchConfig, TrainConfig, embed_images, evaluate, search_images, train
from cgdcli.reports import EpochReport, Report
from cgdcli.views.sheet import write_sheet
from cgdcli.views.tables import epoch_line, recall_line

EPOCHS = 8


def show(report: Report) -> None:
    if isinstance(report, EpochReport):
        print(epoch_line(report), flush=True)


def main(folder: Path) -> None:
    if folder.exists():
        raise SystemExit(f"`{folder}` exists; remove it, or name another: quickstart.py FOLDER")
    folder.mkdir(parents=True)
    draw_classes(folder / "pictures")
    print("drew 32 classes to train on and 12 others to search in")

    config = TrainConfig(
        backbone_weights="none",  # no network here: the ImageNet download is the default
        embedding_dim=128,
        image_size=64,
        batch_size=64,
        epochs=EPOCHS,
        learning_rate=1e-3,
    )
    run = train(folder / "pictures/train", config, runs=folder / "runs", on_report=show)

    index = folder / "feats.npy"
    embed_images([folder / "pictures/test"], index, model=run.run)
    quality = evaluate(index=index)
    print(f"classes never trained on: {recall_line(quality)}")
    print(f"by chance it would be     R@1 {1 / quality.labels:.4f}")

    queries = [sorted(c.iterdir())[0] for c in sorted((folder / "pictures/test").iterdir())]
    answers = search_images(queries[::3], index, SearchConfig(k=7, exclude_self=True))
    write_sheet(answers.results, folder / "sheet.png")
    print(f"look at {folder / 'sheet.png'}, then ask yourself:")
    print(f"  cgd search {queries[1]} --index {index} --explain")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path("quickstart"))
