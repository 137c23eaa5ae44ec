"""Stanford Online Products (Song et al. 2016) as Stanford_Online_Products.zip unpacks."""

from pathlib import Path

from cgdcli.config import Dataset
from cgdcli.datasets.lines import read_lines
from cgdcli.datasets.published import with_published
from cgdcli.datasets.splits import Layout, Splits
from cgdcli.datasets.table import ImageTable
from cgdcli.errors import DatasetError

TRAIN_FILE, TEST_FILE = "Ebay_train.txt", "Ebay_test.txt"


def read_sop(home: Path, crop_box: bool) -> Splits:
    """The two splits of its lists `image_id class_id super_class_id path`; the class is the label.

    Raises:
        DatasetError: a list is missing or damaged, or boxes are wanted, which it does not have.
    """
    if crop_box:
        raise DatasetError(
            "Stanford Online Products comes without boxes, so --crop-box has nothing to cut out",
            hint="leave out --crop-box",
        )
    train, test = (_read(home, file) for file in (TRAIN_FILE, TEST_FILE))
    return with_published(Splits(Dataset.sop, home, train=train, test=test))


def _read(home: Path, file: str) -> ImageTable:
    rows = list(read_lines(home / file, 4, skip=1))
    return ImageTable(tuple(home / row[3] for row in rows), tuple(row[1] for row in rows))


SOP = Layout(
    Dataset.sop,
    "Stanford Online Products",
    ("Stanford_Online_Products",),
    ((TRAIN_FILE, TEST_FILE),),
    read_sop,
)
