"""`check_data`: every fault that is put into sound data is found, by its kind, and no other."""

import shutil

import pytest
from layouts import cub, draw, inshop, sop, write
from PIL import Image

from cgdcli.datasets.checking import check_data
from cgdcli.errors import DatasetError


@pytest.fixture
def sound(tmp_path):
    """train and test with two classes each, all pictures different."""
    for split, classes in (("train", "ab"), ("test", "cd")):
        for label in classes:
            for number in range(3):
                file = tmp_path / split / label / f"{number}.jpg"
                draw(file, ord(label) * 10 + number, (120, 90), quality=95)
    return tmp_path


def kinds(data, **options):
    report = check_data(data, workers=2, **options)
    assert report.sound == all(one.severity != "error" for one in report.findings)
    assert all(one.what and one.hint and one.count for one in report.findings)
    return {one.kind: one for one in report.findings}


def test_sound_data(sound):
    report = check_data(sound)
    assert report.sound and report.findings == () and report.decoded == 12 and report.seconds > 0
    assert [(s.name, s.pictures, s.classes) for s in report.splits] == [
        ("train", 6, 2),
        ("test", 6, 2),
    ]
    assert report.dataset == "folders" and report.data == sound


def cut(file):
    data = file.read_bytes()
    file.write_bytes(data[: len(data) // 2])


def recompress(source, target):
    Image.open(source).resize((80, 60)).save(target, quality=60)


FAULTS = {
    "broken": lambda f: cut(f / "train/a/0.jpg"),
    "empty": lambda f: (f / "train/a/0.jpg").write_bytes(b""),
    "identical-across-splits": lambda f: shutil.copy(f / "train/a/0.jpg", f / "test/c/new.jpg"),
    "identical-labels": lambda f: shutil.copy(f / "train/a/0.jpg", f / "train/b/new.jpg"),
    "identical": lambda f: shutil.copy(f / "train/a/0.jpg", f / "train/a/new.jpg"),
    "near-across-splits": lambda f: recompress(f / "train/a/0.jpg", f / "test/c/new.jpg"),
    "near-labels": lambda f: recompress(f / "train/a/0.jpg", f / "train/b/new.jpg"),
    "single": lambda f: draw(f / "train/lonely/0.jpg", 7, (120, 90)),
    "class-overlap": lambda f: draw(f / "test/a/9.jpg", 8) and draw(f / "test/a/8.jpg", 9),
}
ERRORS = {"broken", "empty", "identical-across-splits", "class-overlap"}


@pytest.mark.parametrize("kind", FAULTS)
def test_each_fault_is_found_and_nothing_else(sound, kind):
    FAULTS[kind](sound)
    found = kinds(sound)
    assert list(found) == [kind]
    assert found[kind].severity == ("error" if kind in ERRORS else "warning")
    assert found[kind].count == len(found[kind].examples) == 1


def test_the_quick_mode_opens_no_picture(sound):
    for kind in ("identical-across-splits", "near-labels", "single", "class-overlap", "empty"):
        FAULTS[kind](sound)
    cut(sound / "train/b/0.jpg")
    report = check_data(sound, quick=True)
    assert {one.kind for one in report.findings} == {"empty", "single", "class-overlap"}
    assert report.decoded == 0


def test_many_copies_are_one_group_of_which_four_are_shown(sound):
    for number in range(5):
        shutil.copy(sound / "train/a/0.jpg", sound / "test/c" / f"copy{number}.jpg")
    (one,) = kinds(sound).values()
    assert one.count == 1 and "and 2 more" in one.examples[0]
    assert "train/a/0.jpg (train, a) = " in one.examples[0]


def test_a_table_whose_pictures_are_missing_is_checked_not_refused(tmp_path):
    draw(tmp_path / "1.png", 1)
    draw(tmp_path / "2.png", 2)
    lines = ["path,label", "1.png,a", "2.png,a", "gone.png,b", "gone2.png,b"]
    found = kinds(write(tmp_path / "t.csv", *lines))
    assert list(found) == ["missing"] and found["missing"].count == 2


def test_boxes_outside_and_over_the_edge(tmp_path):
    for number in range(4):
        draw(tmp_path / f"{number}.png", number, (40, 30))
    boxes = ("0,0,40,30", "0,0,41,30", "40,0,50,30", "5,5,20,20")
    lines = ["path,label,x1,y1,x2,y2", *(f"{n}.png,{'aabb'[n]},{b}" for n, b in enumerate(boxes))]
    found = kinds(write(tmp_path / "t.csv", *lines))
    assert {kind: one.severity for kind, one in found.items()} == {
        "box-outside": "error",
        "box-overhang": "warning",
    }
    assert "2.png" in found["box-outside"].examples[0]
    assert "1.png" in found["box-overhang"].examples[0]


def test_two_boxes_of_one_picture_are_two_pictures(tmp_path):
    wide = Image.new("RGB", (80, 30))
    for number in range(2):
        wide.paste(Image.open(draw(tmp_path / f"{number}.png", number)), (40 * number, 0))
    wide.save(tmp_path / "wide.png")
    lines = ["path,label,split,x,y,w,h", "wide.png,a,train,0,0,40,30", "wide.png,b,test,40,0,40,30"]
    file = write(tmp_path / "t.csv", *lines)
    assert set(kinds(file)) == {"single", "no-partner"}  # each is alone in its split


def boxed(folder, *boxes):
    """One drawing and a copy of it, and each (file, label, split, x1,y1,x2,y2) of them."""
    draw(folder / "1.png", 1, (120, 90))
    shutil.copy(folder / "1.png", folder / "2.png")
    lines = [f"{file}.png,{label},{split},{box}" for file, label, split, box in boxes]
    return write(folder / "t.csv", "path,label,split,x1,y1,x2,y2", *lines)


@pytest.mark.parametrize("box", ["6,5,31,25", "0,0,40,30", "30,20,40,30", ",,,"])
def test_one_picture_in_two_splits_is_found_whatever_its_boxes(tmp_path, box):
    """They share pixels; `,,,` is the whole picture."""
    file = boxed(tmp_path, (1, "a", "train", "5,5,31,25"), (2, "b", "test", box))
    found = kinds(file)
    assert set(found) == {"single", "no-partner", "identical-across-splits"}
    assert "(train, a) = " in found["identical-across-splits"].examples[0]


def test_only_those_that_share_pixels_with_another_split_are_named(tmp_path):
    file = boxed(
        tmp_path,
        (1, "a", "train", "0,0,20,20"),
        (1, "b", "train", "20,0,40,20"),
        (2, "b", "train", "20,0,40,20"),
        (2, "c", "test", "0,10,20,30"),
    )
    found = kinds(file)
    (across,), (copies,) = (
        found[kind].examples for kind in ("identical-across-splits", "identical")
    )
    assert across.count(" = ") == 1 and "(train, a)" in across and "(test, c)" in across
    assert copies.count("(train, b)") == 2


def test_two_boxes_of_nearly_the_same_place_under_two_labels_look_the_same(tmp_path):
    file = boxed(tmp_path, (1, "a", "train", "5,5,111,85"), (2, "b", "train", "5,5,110,85"))
    assert set(kinds(file)) == {"single", "near-labels"}


@pytest.mark.parametrize("make", [cub, sop, inshop])
def test_benchmarks_are_sound_and_their_counts_compared(tmp_path, make):
    make(tmp_path)
    report = check_data(tmp_path)
    assert report.sound and report.findings == ()
    assert any("published" in note for note in report.notes)


def test_in_shop_roles_are_counted(tmp_path):
    report = check_data(inshop(tmp_path), crop_box=True)
    test = report.splits[1]
    assert (test.pictures, test.queries, test.gallery, test.boxes) == (6, 3, 3, 6)


def test_progress_counts_to_the_end(sound):
    FAULTS["broken"](sound)
    calls = []
    check_data(sound, workers=1, on_progress=lambda *done: calls.append(done))
    assert [done for done, _, _ in calls] == list(range(1, 13)) and calls[-1] == (12, 12, 1)


def test_no_data_is_refused(tmp_path):
    with pytest.raises(DatasetError):
        check_data(tmp_path / "gone")
