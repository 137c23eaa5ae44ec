"""Cars196 (Krause et al. 2013) as it unpacks: car_ims/ with cars_annos.mat, or the two halves
cars_train/ and cars_test/ with their annotations in devkit/.

Retrieval uses neither official half: classes 1 to 98 train, 99 to 196 are tested. The annotations
are MATLAB files, which scipy reads: the extra `cars`.
"""

from pathlib import Path
from typing import Any, NamedTuple

from cgdcli.config import Dataset
from cgdcli.datasets.published import with_published
from cgdcli.datasets.splits import Layout, Splits
from cgdcli.datasets.table import ImageTable
from cgdcli.errors import DatasetError
from cgdcli.images.cropping import Box

LAST_TRAIN_CLASS = 98
WHOLE = "cars_annos.mat"
HALVES = (
    ("devkit/cars_train_annos.mat", "cars_train"),
    (
        "cars_test_annos_withlabels.mat",  # a download of its own; torchvision keeps it right there
        "cars_test",
    ),
)
META = "devkit/cars_meta.mat"


class _Car(NamedTuple):
    path: Path
    number: int  # of its class, from 1
    corners: tuple[float, float, float, float]


def read_cars(home: Path, crop_box: bool) -> Splits:
    """The two splits; with `crop_box` each picture is its car's bounding box.

    Raises:
        DatasetError: scipy is not installed, or the annotations cannot be read.
    """
    if (home / WHOLE).is_file():
        content = _load(home / WHOLE)
        names = content.get("class_names", ())
        cars = _cars(content, "relative_im_path", home, home / WHOLE)
    else:
        names = _load(home / META).get("class_names", ()) if (home / META).is_file() else ()
        cars = []
        for file, folder in HALVES:
            place = home / file if (home / file).is_file() else home / "devkit" / file
            cars += _cars(_load(place), "fname", home / folder, place)
    labels = {number: f"{number:03d} {name}" for number, name in enumerate(names, start=1)}

    def split(train: bool) -> ImageTable:
        kept = [car for car in cars if (car.number <= LAST_TRAIN_CLASS) == train]
        return ImageTable(
            tuple(car.path for car in kept),
            tuple(labels.get(car.number, f"{car.number:03d}") for car in kept),
            boxes=tuple(_box(car) for car in kept) if crop_box else (),
        )

    return with_published(Splits(Dataset.cars, home, train=split(True), test=split(False)))


def _load(file: Path) -> dict[str, Any]:
    try:
        from scipy.io import loadmat
    except ImportError:
        raise DatasetError(
            f"`{file}` is a MATLAB file; scipy reads it, and is not installed",
            hint="pip install 'cgdcli[cars]'",
        ) from None
    try:
        content: dict[str, Any] = loadmat(str(file), squeeze_me=True)
    except Exception as error:  # damaged bytes raise nearly everything in its reader
        raise DatasetError(
            f"cannot read `{file}`: {error}", hint="download and unpack it again"
        ) from error
    return content


def _cars(content: dict[str, Any], path: str, folder: Path, file: Path) -> list[_Car]:
    annotations = content.get("annotations")
    fields = (path, "class", "bbox_x1", "bbox_y1", "bbox_x2", "bbox_y2")
    known = getattr(getattr(annotations, "dtype", None), "names", None) or ()
    lacking = [name for name in fields if name not in known]
    if annotations is None or lacking:
        raise DatasetError(
            f"`{file}` lacks {', '.join(lacking)} in its `annotations`",
            hint="cars_annos.mat or cars_test_annos_withlabels.mat is wanted, not the one without "
            "labels",
        )
    columns = [annotations[name].reshape(-1) for name in fields]
    return [
        _Car(folder / str(name), int(number), (float(a), float(b), float(c), float(d)))
        for name, number, a, b, c, d in zip(*columns, strict=True)
    ]


def _box(car: _Car) -> Box:
    """MATLAB counts pixels from 1 and the last one is inside."""
    left, top, right, bottom = car.corners
    try:
        return Box.around(max(left - 1, 0), max(top - 1, 0), right, bottom)
    except ValueError as error:
        raise DatasetError(
            f"`{car.path}`: {error}", hint="download the annotations again"
        ) from error


CARS = Layout(
    Dataset.cars,
    "Cars196",
    ("stanford_cars", "cars196"),
    (
        (WHOLE,),
        (HALVES[0][0], HALVES[1][0]),
        (HALVES[0][0], f"devkit/{HALVES[1][0]}"),
    ),
    read_cars,
)
