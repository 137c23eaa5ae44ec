"""In-shop Clothes Retrieval (DeepFashion, Liu et al. 2016) as its folders unpack.

Eval/list_eval_partition.txt (older copies: in the folder itself) tells train, query and gallery
apart; its pictures `img/...` lie in Img/ or in the folder itself. A query is searched for in the
gallery alone.
"""

from pathlib import Path

from cgdcli.config import Dataset
from cgdcli.datasets.lines import listed_box, read_lines
from cgdcli.datasets.published import with_published
from cgdcli.datasets.splits import Layout, Splits
from cgdcli.datasets.table import ImageTable
from cgdcli.errors import DatasetError
from cgdcli.images.cropping import Box

PARTITION, BOXES = "list_eval_partition.txt", "list_bbox_inshop.txt"
STATUSES = ("train", "query", "gallery")


def read_inshop(home: Path, crop_box: bool) -> Splits:
    """Train, and test as query and gallery; with `crop_box` each picture is its garment's box.

    Raises:
        DatasetError: a list is missing or damaged, or lacks a picture.
    """
    file = _place(home, "Eval", PARTITION)
    rows = list(read_lines(file, 3, skip=2))  # the number of rows, the names of the columns
    unknown = sorted({status for _, _, status in rows} - set(STATUSES))
    if unknown:
        raise DatasetError(
            f"`{file}` has the status `{unknown[0]}`; train, query and gallery are known",
            hint="unpack the archive again",
        )
    boxes = _boxes(_place(home, "Anno", BOXES)) if crop_box else {}
    missing = [name for name, _, _ in rows if crop_box and name not in boxes]
    if missing:
        raise DatasetError(
            f"`{BOXES}` lacks `{missing[0]}` ({len(missing)} in all)",
            hint="leave out --crop-box, or unpack the annotations again",
        )
    pictures = home / "Img" if (home / "Img").is_dir() else home

    def table(*wanted: str) -> ImageTable:
        kept = [row for row in rows if row[2] in wanted]
        tested = "query" in wanted
        return ImageTable(
            tuple(pictures / name for name, _, _ in kept),
            tuple(item for _, item, _ in kept),
            boxes=tuple(boxes[name] for name, _, _ in kept) if crop_box else (),
            is_query=tuple(status == "query" for _, _, status in kept) if tested else (),
            is_gallery=tuple(status == "gallery" for _, _, status in kept) if tested else (),
        )

    train, test = table("train"), table("query", "gallery")
    return with_published(Splits(Dataset.inshop, home, train=train, test=test))


def _place(home: Path, folder: str, file: str) -> Path:
    return home / folder / file if (home / folder / file).is_file() else home / file


def _boxes(file: Path) -> dict[str, Box]:
    """`image_name clothes_type pose_type x_1 y_1 x_2 y_2`."""
    return {name: listed_box(box, file) for name, _, _, *box in read_lines(file, 7, skip=2)}


INSHOP = Layout(
    Dataset.inshop,
    "In-shop Clothes Retrieval",
    ("In-shop Clothes Retrieval Benchmark", "In-shop", "inshop"),
    ((f"Eval/{PARTITION}",), (PARTITION,)),
    read_inshop,
)
