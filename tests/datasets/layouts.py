"""Tiny trees laid out exactly as the benchmarks unpack, with drawn pictures."""

import numpy as np
from PIL import Image


def draw(file, number=0, size=(40, 30), **options):
    """A noisy picture, the same for the same number; different numbers look different."""
    file.parent.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(number)
    coarse = Image.fromarray(rng.integers(0, 256, (6, 8, 3), dtype=np.uint8))
    coarse.resize(size, Image.Resampling.BICUBIC).save(file, **options)
    return file


def write(file, *lines):
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("".join(line + "\n" for line in lines))
    return file


def cub(parent, per_class=None, pictures=True):
    """CUB_200_2011/: class number to pictures; by default two classes on each side of the cut."""
    home = parent / "CUB_200_2011"
    per_class = per_class or {1: 2, 100: 3, 101: 2, 200: 3}
    rows = [
        (c, f"{c:03d}.Bird_{c}/Bird_{c}_{i:04d}.jpg")
        for c in per_class
        for i in range(per_class[c])
    ]
    write(home / "images.txt", *(f"{n} {path}" for n, (_, path) in enumerate(rows, 1)))
    write(home / "image_class_labels.txt", *(f"{n} {c}" for n, (c, _) in enumerate(rows, 1)))
    write(
        home / "bounding_boxes.txt", *(f"{n} 10.0 5.0 20.0 15.5" for n in range(1, len(rows) + 1))
    )
    write(home / "train_test_split.txt", *(f"{n} {n % 2}" for n in range(1, len(rows) + 1)))
    write(home / "classes.txt", *(f"{c} {c:03d}.Bird_{c}" for c in per_class))
    write(parent / "attributes.txt", "1 has_bill_shape::curved")
    for number, (_, path) in enumerate(rows if pictures else ()):
        draw(home / "images" / path, number)
    return home


def sop(parent, train=None, test=None, pictures=True):
    """Stanford_Online_Products/: class number to pictures."""
    home = parent / "Stanford_Online_Products"
    place = 0
    for split, classes in (
        ("train", train or {1: 2, 2: 3}),
        ("test", test or {11319: 2, 11320: 2}),
    ):
        lines = ["image_id class_id super_class_id path"]
        for c, count in classes.items():
            for i in range(count):
                path = f"bicycle_final/{c:012d}_{i}.JPG"
                place += 1
                lines.append(f"{place} {c} 1 {path}")
                if pictures:
                    draw(home / path, place, format="JPEG")
        write(home / f"Ebay_{split}.txt", *lines)
    write(home / "Ebay_info.txt", "image_id class_id super_class_id path")
    return home


INSHOP = [
    ("train", 1, 3),
    ("train", 2, 2),
    ("query", 7, 2),
    ("gallery", 7, 1),
    ("query", 8, 1),
    ("gallery", 8, 2),
]


def inshop(home, rows=INSHOP, pictures=True):
    """Eval/, Anno/, Img/: (status, item, pictures)."""
    named = [
        (f"img/WOMEN/Dresses/id_{item:08d}/{status}_{i}_front.jpg", item, status)
        for status, item, count in rows
        for i in range(count)
    ]
    write(
        home / "Eval" / "list_eval_partition.txt",
        str(len(named)),
        "image_name item_id evaluation_status",
        *(f"{name}    id_{item:08d}    {status}" for name, item, status in named),
    )
    write(
        home / "Anno" / "list_bbox_inshop.txt",
        str(len(named)),
        "image_name clothes_type pose_type x_1 y_1 x_2 y_2",
        *(f"{name}  1  1  004 003 030 025" for name, _, _ in named),
    )
    for number, (name, _, _) in enumerate(named if pictures else ()):
        draw(home / "Img" / name, number)
    return home


def _structs(rows, names):
    values = np.empty((1, len(rows)), dtype=[(name, object) for name in names])
    for place, row in enumerate(rows):
        values[0, place] = row
    return values


def cars(home, per_class=None, pictures=True):
    """car_ims/ and cars_annos.mat: class number to pictures."""
    from scipy.io import savemat

    per_class = per_class or {1: 2, 98: 2, 99: 3, 196: 2}
    numbers = [c for c in per_class for _ in range(per_class[c])]
    rows = [(f"car_ims/{n:06d}.jpg", 5, 3, 30, 20, c, n % 2) for n, c in enumerate(numbers, 1)]
    names = ("relative_im_path", "bbox_x1", "bbox_y1", "bbox_x2", "bbox_y2", "class", "test")
    home.mkdir(parents=True, exist_ok=True)
    savemat(
        home / "cars_annos.mat",
        {"annotations": _structs(rows, names), "class_names": _class_names()},
    )
    for number, row in enumerate(rows if pictures else ()):
        draw(home / row[0], number)
    return home


def cars_halves(home, official_test="cars_test_annos_withlabels.mat"):
    """devkit/, cars_train/, cars_test/, and the labels of test where torchvision keeps them."""
    from scipy.io import savemat

    names = ("bbox_x1", "bbox_y1", "bbox_x2", "bbox_y2", "class", "fname")
    (home / "devkit").mkdir(parents=True)
    halves = (("devkit/cars_train_annos.mat", "cars_train", 0), (official_test, "cars_test", 50))
    for file, folder, first in halves:
        rows = [(5, 3, 30, 20, c, f"{n:05d}.jpg") for n, c in enumerate((1, 98, 99, 99), 1)]
        savemat(home / file, {"annotations": _structs(rows, names)})
        for place, row in enumerate(rows):
            draw(home / folder / row[-1], first + place)
    savemat(home / "devkit" / "cars_meta.mat", {"class_names": _class_names()})
    return home


def _class_names():
    names = np.empty((1, 196), dtype=object)
    names[0] = [f"Make Model {n} 2012" for n in range(1, 197)]
    return names
