"""The page of duplicates in a real browser: whole, offline, readable, 1 000 groups at once."""

import time
from pathlib import Path

import pytest
from PIL import Image
from test_profile_page import CONTRAST
from test_run_page import NASTY, opened

from cgdcli.reports import DuplicateGroup, DuplicateImage, DuplicatesReport
from cgdcli.views.duplicates_page import GROUPS_SHOWN, IMAGES_SHOWN, duplicates_page

MORE_CONTRAST = CONTRAST.replace(
    "'h1, h2, p, td, th, dt, dd.value, figure text'", "'h3, h3 .leak, ul.copies li, ul.copies b'"
)


def image(path, row, *, kept=False, state="", split=None, label="a"):
    spare = not kept and not state
    return DuplicateImage(
        row, str(path), label, split, 12_345, state, kept, spare, 0, 1.0 if kept else 0.9731
    )


def group(images, **facts):
    splits = tuple(sorted({i.split for i in images if i.split}))
    known = {"smallest": 0.9731, "largest": 1.0, "exact": False, "chain": False, "too_long": False}
    return DuplicateGroup(**known | facts, splits=splits, images=tuple(images))


def report(groups):
    return DuplicatesReport(Path("f.npy"), 9_000, 0.95, tuple(groups), {"train": 8_000}, None, 2.0)


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("duplicates")
    Image.new("RGB", (90, 60), (200, 30, 30)).save(folder / "a.png")
    Image.new("RGB", (400, 700), (30, 30, 200)).save(folder / "b.jpg")
    a, b, odd = folder / "a.png", folder / "b.jpg", folder / "\udcff.png"
    groups = [
        group([image(a, 0, kept=True, split="test"), image(b, 1, split="train")]),
        group([image(a, 2, kept=True), image(a, 3)], exact=True),
        group([image(NASTY, 4, kept=True, label=NASTY), image("x" * 200, 5, state="gone")]),
        group([image(odd, 6, kept=True), *(image(b, 7 + i) for i in range(20))], chain=True),
        group([image(b, i) for i in range(1_001)], chain=True, too_long=True),
    ]
    pages = {
        "whole": report(groups),
        "none": report([]),
        "many": report([group([image(a, i, kept=True), image(b, i)]) for i in range(1_100)]),
    }
    for name, one in pages.items():
        (folder / f"{name}.html").write_text(duplicates_page(one), encoding="utf-8")
    return {name: folder / f"{name}.html" for name in pages}


@pytest.mark.parametrize("name", ["whole", "none"])
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 380])
def test_is_readable_and_whole(browser, files, name, scheme, width):
    tab = opened(browser, files[name], width, scheme)
    outside = [url for url in tab.asked if not url.startswith("data:image/jpeg;base64,")]
    assert outside == [files[name].as_uri()] and tab.said == []
    assert tab.page.evaluate("document.documentElement.scrollWidth") <= width
    assert min(tab.page.evaluate(CONTRAST)) >= 4.5
    if name == "whole":
        assert min(tab.page.evaluate(MORE_CONTRAST)) >= 4.5
    tab.page.close()


def test_pictures_stand_side_by_side_under_their_kind(browser, files):
    tab = opened(browser, files["whole"])
    titles = tab.page.eval_on_selector_all("h2", "all => all.map(e => e.textContent)")
    assert titles == ["Across splits", "Exact copies", "Alike", "Chains"]
    first = tab.page.locator("section.group").first.locator("li")
    boxes = [first.nth(i).bounding_box() for i in range(2)]
    assert boxes[0]["y"] == boxes[1]["y"] and boxes[0]["x"] < boxes[1]["x"]
    text = first.nth(1).inner_text()
    assert "0.9731" in text and "400 x 700 px, 12.3 kB" in text and "train, a" in text
    assert "kept" in first.nth(0).inner_text()
    styles = [f"getComputedStyle(document.querySelectorAll('.frame')[{i}]).borderTopStyle"
              for i in range(2)]  # fmt: skip
    assert [tab.page.evaluate(style) for style in styles] == ["solid", "dashed"]
    tab.page.close()


def test_what_is_gone_is_named_and_long_groups_are_cut(browser, files):
    tab = opened(browser, files["whole"])
    groups = tab.page.locator("section.group")
    assert "not found" in groups.nth(2).text_content()
    assert NASTY in groups.nth(2).text_content()
    assert groups.nth(3).locator("li").count() == IMAGES_SHOWN
    assert "9 pictures more" in groups.nth(3).text_content()
    assert "989 pictures more" in groups.nth(4).text_content()
    tab.page.close()


def test_a_thousand_groups_are_there_at_once(browser, files):
    started = time.monotonic()
    tab = opened(browser, files["many"])
    assert tab.page.locator("section.group").count() == GROUPS_SHOWN
    tab.page.evaluate("window.scrollTo(0, document.body.scrollHeight)")
    tab.page.locator("section.group").last.wait_for(state="visible")
    frames = tab.page.evaluate(
        """() => new Promise(done => { let y = 0, last = performance.now(), worst = 0;
        const step = now => { worst = Math.max(worst, now - last); last = now; y += 900;
          scrollTo(0, y); y < 60000 ? requestAnimationFrame(step) : done(worst); };
        requestAnimationFrame(step); })"""
    )
    assert frames < 500 and time.monotonic() - started < 20  # milliseconds; both far above usual
    assert "first 1000 of 1100 groups" in tab.page.inner_text("main")
    tab.page.close()
