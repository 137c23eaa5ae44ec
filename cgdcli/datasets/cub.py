"""CUB-200-2011 (Wah et al. 2011) as CUB_200_2011.tgz unpacks.

Retrieval does not use its train_test_split.txt: classes 1 to 100 train, 101 to 200 are tested.
"""

from pathlib import Path

from cgdcli.config import Dataset
from cgdcli.datasets.lines import listed_box, read_lines, whole_number
from cgdcli.datasets.published import with_published
from cgdcli.datasets.splits import Layout, Splits
from cgdcli.datasets.table import ImageTable
from cgdcli.errors import DatasetError

LAST_TRAIN_CLASS = 100


def read_cub(home: Path, crop_box: bool) -> Splits:
    """The two splits; with `crop_box` each picture is its bird's bounding box.

    Raises:
        DatasetError: a list is missing, damaged, or lacks a picture.
    """
    paths = {number: home / "images" / path for number, path in read_lines(home / "images.txt", 2)}
    labels_file, boxes_file = home / "image_class_labels.txt", home / "bounding_boxes.txt"
    classes = {number: whole_number(c, labels_file) for number, c in read_lines(labels_file, 2)}
    boxes = {}
    if crop_box:
        boxes = {
            n: listed_box(box, boxes_file, sized=True) for n, *box in read_lines(boxes_file, 5)
        }
    names = _class_names(home / "classes.txt")
    _refuse_lacking(labels_file, paths.keys() - classes.keys())
    _refuse_lacking(boxes_file, paths.keys() - boxes.keys() if crop_box else set())

    def split(train: bool) -> ImageTable | None:
        kept = [n for n in paths if (classes[n] <= LAST_TRAIN_CLASS) == train]
        return ImageTable(
            tuple(paths[n] for n in kept),
            tuple(names.get(classes[n], f"{classes[n]:03d}") for n in kept),
            boxes=tuple(boxes[n] for n in kept) if crop_box else (),
        )

    return with_published(Splits(Dataset.cub, home, train=split(True), test=split(False)))


def _refuse_lacking(file: Path, numbers: set[str]) -> None:
    if numbers:
        raise DatasetError(
            f"`{file}` lacks picture {min(numbers)} of images.txt ({len(numbers)} in all)",
            hint="unpack the archive again",
        )


def _class_names(file: Path) -> dict[int, str]:
    """001.Black_footed_Albatross and so on; the number alone where the list is not there."""
    if not file.is_file():
        return {}
    return {whole_number(number, file): name for number, name in read_lines(file, 2)}


CUB = Layout(
    Dataset.cub,
    "CUB-200-2011",
    ("CUB_200_2011",),
    (("images.txt", "image_class_labels.txt"),),
    read_cub,
)
