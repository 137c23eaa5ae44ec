"""The page of hits in a real browser: whole, offline, readable, by mouse and by keys."""

import os
import time
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from test_profile_page import CONTRAST
from test_run_page import opened

from cgdcli.reports import Hit, QueryHits
from cgdcli.views.hits_page import hits_page

NASTY = "<img src=x onerror=alert(1)>&'\"</script>"
ODD = [
    NASTY.replace("/", "") + ".png",
    os.fsdecode(b"caf\xe9.png"),
    "日本語の写真.png",
    "صورة.png",
    "50% off #1?.png",
    "x" * 240 + ".png",
    "two\nlines.png",
    "javascript:alert(1).png",
]
LABELS = [NASTY, "日本語", "قطة", "very long label " * 20, "red", None, "", os.fsdecode(b"\xff")]
TEXT = CONTRAST.replace(
    "'h1, h2, p, td, th, dt, dd.value, figure text'",
    "'h1, h2, p, .line span, .hit b, .hit dd, .frame, nav a, .small'",
)


def colour(number):
    return 37 * number % 256, 90, 255 - 61 * number % 256


def draw(folder, names, size=(700, 500)):
    folder.mkdir(exist_ok=True)
    for number, name in enumerate(names):
        Image.new("RGB", size, colour(number)).save(folder / name, format="PNG")
    return [folder / name for name in names]


def answer(files, query=None, labels=("red", "blue"), branches=None, label="red"):
    hits = tuple(
        Hit(i + 1, 0.99 - 0.01 * (i % 90), str(file), labels[i % len(labels)], i, branches)
        for i, file in enumerate(files)
    )
    return QueryHits(str(query or files[0]), hits, label, str(query or files[0]))


def some(folder, count):
    return draw(folder / "imgs", [f"{i}.png" for i in range(count)])


@dataclass
class Written:
    file: Path
    text: str


def written(folder, name, results, **options):
    text = hits_page(results, folder, index="feats.npy", **options)
    (folder / name).write_text(text, encoding="utf-8")
    return Written(folder / name, text)


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    folder = tmp_path_factory.mktemp("hits")
    files = some(folder, 12)
    odd = draw(folder / "odd", ODD, (60, 40))
    gone = [*files[:2], folder / "imgs/gone.png", *files[2:4]]
    bare = QueryHits("row:0", (Hit(1, 1.0, "row:0", None, 0), Hit(2, -0.25, "row:7", None, 7)))
    three = [answer(files[:9], query=f) for f in files[9:]]
    return {
        "one": written(folder, "one.html", [answer(files, branches={"S": 0.9, "G": 0.5})]),
        "three": written(folder, "three.html", three),
        "odd": written(folder, "odd.html", [answer(odd, labels=LABELS)]),
        "gone": written(folder, "gone.html", [answer(gone, query=gone[2])]),
        "bare": written(folder, "bare.html", [bare]),
        "none": written(folder, "none.html", [QueryHits("q.png", (), None, str(files[0]))]),
        "budget": written(folder, "budget.html", [answer(files)], large_bytes=20_000),
    }


# ---- whole and readable


@pytest.mark.parametrize("name", ["one", "three", "odd", "gone", "bare", "none", "budget"])
@pytest.mark.parametrize(("width", "scheme"), [(1400, "light"), (380, "dark")])
def test_is_readable_and_whole(browser, pages, name, width, scheme):
    tab = opened(browser, pages[name].file, width, scheme)
    outside = [url for url in tab.asked if not url.startswith("data:image/jpeg;base64,")]
    assert outside == [pages[name].file.as_uri()] and tab.said == []
    assert tab.page.evaluate("document.documentElement.scrollWidth") <= width
    assert min(tab.page.evaluate(TEXT)) >= 4.5
    ground = tab.page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert ground == ("rgb(255, 255, 255)" if scheme == "light" else "rgb(20, 23, 27)")
    shown = "all => all.filter(e => !e.closest('dialog') && !(e.complete && e.naturalWidth)).length"
    tab.page.wait_for_function(f"() => ({shown})([...document.images]) === 0")
    tab.page.close()


def test_a_hit_says_all_of_it(browser, pages):
    tab = opened(browser, pages["one"].file)
    hits = tab.page.locator(".hit")
    assert hits.count() == 12
    assert hits.nth(1).inner_text().split() == [
        *("rank", "2", "similarity", "0.9800", "S", "0.90", "G", "0.50"),
        *("✗", "wrong:", "blue", "1.png"),
    ]  # fmt: skip
    for place, kind, mark, style in ((0, "right", "✓", "solid"), (1, "wrong", "✗", "dashed")):
        hit = hits.nth(place)
        assert kind in hit.get_attribute("class") and mark in hit.inner_text()
        border = "e => getComputedStyle(e).borderTopStyle"
        assert hit.locator(".frame").evaluate(border) == style
    assert "6 of 12 hits with this label" in tab.page.locator(".query").inner_text()
    assert "S SPoC (mean), G GeM" in tab.page.locator("header").inner_text()
    tab.page.close()


def test_bars_are_as_long_as_their_numbers(browser, tmp_path):
    files = some(tmp_path, 4)
    values = (1.0, 0.5, 0.0, -0.5)
    hits = tuple(
        replace(hit, similarity=value)
        for hit, value in zip(answer(files).hits, values, strict=True)
    )
    page = written(tmp_path, "p.html", [QueryHits("q", hits)])
    tab = opened(browser, page.file)
    parts = tab.page.eval_on_selector_all(
        ".hit .line + .length", "all => all.map(e => e.style.getPropertyValue('--part').trim())"
    )
    assert parts == ["100.0%", "50.0%", "0.0%", "0.0%"]
    png = tab.page.locator(".hit").nth(1).locator(".length").screenshot()
    row = _pixels(png)[2]
    filled = np.abs(row.astype(int) - np.array([47, 111, 179])).max(axis=1) < 8
    assert filled.mean() == pytest.approx(0.5, abs=0.02)
    tab.page.close()


def _pixels(png):
    import io

    return np.asarray(Image.open(io.BytesIO(png)).convert("RGB"))


def test_each_picture_is_in_the_page_once(browser, pages):
    """Three queries with the same nine hits, of three more pictures."""
    assert pages["three"].text.count('src="data:') == 12
    tab = opened(browser, pages["three"].file)
    assert tab.page.locator("section .hit img").count() == 27
    for number in (0, 4, 8):
        sources = {
            tab.page.locator(f"#q{q} .hit img").nth(number).get_attribute("src") for q in (1, 2, 3)
        }
        assert len(sources) == 1 and sources.pop().startswith("data:image/jpeg")
    tab.page.close()


def test_links_lead_to_the_files(browser, pages):
    """By the browser's own reading of them, odd names too; relative, so that they move together."""
    for name in ("one", "odd"):
        tab = opened(browser, pages[name].file)
        targets = tab.page.eval_on_selector_all(".hit a", "all => all.map(e => e.href)")
        written_as = tab.page.eval_on_selector_all(
            ".hit a", "all => all.map(e => e.getAttribute('href'))"
        )
        assert all(not w.startswith(("/", "file:")) for w in written_as)
        files = [
            pages[name].file.parent / ("imgs" if name == "one" else "odd") / n
            for n in ([f"{i}.png" for i in range(12)] if name == "one" else ODD)
        ]
        assert targets == [file.as_uri() for file in files]
        assert tab.page.goto(targets[1]) is not None
        tab.page.close()


def test_addresses_are_linked_where_a_browser_can_follow(tmp_path, monkeypatch):
    monkeypatch.setattr("cgdcli.views.embedded.fetch", lambda place: some(tmp_path, 1)[0])
    addresses = ["https://host.example/a.png", "s3://bucket/b.png"]
    text = hits_page([answer(addresses)], tmp_path, index="i")
    assert 'href="https://host.example/a.png"' in text and "s3://bucket/b.png" in text
    assert 'href="s3:' not in text


def test_what_is_gone_is_named(browser, pages):
    tab = opened(browser, pages["gone"].file)
    hit = tab.page.locator(".hit").nth(2)
    assert "picture not found" in hit.inner_text() and "gone.png" in hit.inner_text()
    assert hit.locator("a").count() == 0 and hit.locator("img").count() == 0
    tab.page.locator(".hit .frame").nth(2).click()
    assert "picture not found" in tab.page.locator("#viewer").inner_text()
    assert tab.said == []
    tab.page.close()


def test_rows_without_pictures(browser, pages):
    tab = opened(browser, pages["bare"].file)
    assert "no picture is known" in tab.page.locator(".query").inner_text()
    assert "no picture is known" in tab.page.locator(".hit").nth(1).inner_text()
    assert "row:7" in tab.page.locator(".hit").nth(1).inner_text()
    assert "-0.2500" in tab.page.locator(".hit").nth(1).inner_text()
    tab.page.close()


def test_words_cannot_become_markup(tmp_path):
    nasty = QueryHits(
        NASTY, (Hit(1, 0.5, NASTY, NASTY, 0, {NASTY: 0.5}),), NASTY, NASTY
    )  # fmt: skip
    text = hits_page([nasty, nasty], tmp_path, index=NASTY)
    assert "<img src=x" not in text and text.count("</script>") == 1


def test_text_that_is_no_utf_8_is_marked(pages):
    pages["odd"].text.encode("utf-8")
    assert "caf\ufffd.png" in pages["odd"].text and "caf%E9.png" in pages["odd"].text


def test_size_is_bounded(tmp_path):
    """120 pictures of noise, with room for a few."""
    rng = np.random.default_rng(0)
    (tmp_path / "imgs").mkdir()
    files = [tmp_path / f"imgs/{i}.png" for i in range(120)]
    for file in files:
        Image.fromarray(rng.integers(0, 256, (220, 220, 3), dtype=np.uint8)).save(file)
    text = hits_page(
        [answer(files)], tmp_path, index="i", small_bytes=1_000_000, large_bytes=500_000
    )
    assert 1_400_000 < len(text) < 1_500_000 + 120 * 1_500
    assert "are only named: small copies take 1.0 MB at most" in text
    assert "are here in small only: enlarged copies take 500.0 kB at most" in text


# ---- the enlarged view


def viewer(tab):
    """Title, what is said of the place, and whether it is open."""
    return tab.page.evaluate("""() => { const v = document.querySelector('#viewer');
      return v.open ? [v.querySelector('h2').textContent, v.querySelector('.count').textContent]
        : null; }""")


def focused(tab):
    return tab.page.evaluate("document.activeElement.dataset.title || document.activeElement.id")


def test_a_click_enlarges_and_escape_comes_back(browser, pages):
    tab = opened(browser, pages["one"].file)
    tab.page.locator(".hit .frame").nth(2).click()
    assert viewer(tab) == ["Hit 3: 2.png", "3 of 12"]
    image = tab.page.locator("#viewer .picture img")
    assert image.get_attribute("alt") == "2.png"
    tab.page.wait_for_function(
        "document.querySelector('#viewer .picture img').naturalWidth === 640"
    )
    seen = np.median(_pixels(image.screenshot()).reshape(-1, 3), axis=0)
    assert np.abs(seen - colour(2)).max() <= 6
    words = tab.page.locator("#viewer .words").inner_text()
    assert "0.9700" in words and "red" in words and "✓" in words and "0.50" in words
    tab.page.keyboard.press("Escape")
    assert viewer(tab) is None and focused(tab) == "Hit 3: 2.png" and tab.said == []
    tab.page.close()


@pytest.mark.parametrize("width", [1400, 380])
def test_the_enlarged_view_fits(browser, pages, width):
    tab = opened(browser, pages["odd"].file, width)
    for place in range(len(ODD)):
        tab.page.locator(".hit .frame").nth(place).click()
        box = tab.page.locator("#viewer").bounding_box()
        assert box["x"] >= 0 and box["x"] + box["width"] <= width
        assert box["y"] >= 0 and box["y"] + box["height"] <= 800
        picture = tab.page.locator("#viewer .picture").bounding_box()
        assert picture["height"] > 200 and picture["width"] > 200
        for button in (".close", ".step >> nth=0", ".step >> nth=1"):
            inside = tab.page.locator(f"#viewer {button}").bounding_box()
            assert inside["x"] >= 0 and inside["x"] + inside["width"] <= width
        tab.page.keyboard.press("Escape")
    tab.page.close()


def test_keys_in_the_enlarged_view(browser, pages):
    tab = opened(browser, pages["three"].file)
    tab.page.locator("#q2 .hit .frame").first.click()
    seen = [viewer(tab)[1]]
    for key in ("ArrowRight", "j", "ArrowDown", "ArrowLeft", "k", "ArrowUp", "ArrowUp", "ArrowUp"):
        tab.page.keyboard.press(key)
        seen.append(viewer(tab)[1])
    places = [1, 2, 3, 4, 3, 2, 1]
    assert seen == [f"{n} of 9" for n in places] + ["the query"] * 2  # and no further
    tab.page.keyboard.press("End")
    assert viewer(tab)[1] == "9 of 9"
    tab.page.keyboard.press("ArrowRight")
    assert viewer(tab)[1] == "9 of 9"
    assert tab.page.locator("#viewer .step").nth(1).is_disabled()
    tab.page.keyboard.press("Home")
    assert viewer(tab) == ["Query: 10.png", "the query"]
    tab.page.keyboard.press("j")
    tab.page.locator("#viewer .close").click()
    assert viewer(tab) is None and focused(tab) == "Hit 1: 0.png" and tab.said == []
    tab.page.close()


def test_tab_stays_in_the_enlarged_view(browser, pages):
    tab = opened(browser, pages["one"].file)
    tab.page.locator(".hit .frame").nth(2).click()
    for _ in range(12):
        tab.page.keyboard.press("Tab")
        inside = "!document.activeElement.closest('section')"
        assert tab.page.evaluate(inside)
    tab.page.close()


def test_what_has_no_enlarged_copy_says_so(browser, pages):
    assert "pictures are here in small only" in pages["budget"].text
    tab = opened(browser, pages["budget"].file)
    tab.page.locator(".hit .frame").last.click()
    assert "No enlarged copy" in tab.page.locator("#viewer .words").inner_text()
    width = "document.querySelector('#viewer .picture img').naturalWidth"
    tab.page.wait_for_function(f"{width} === 200")
    tab.page.keyboard.press("Home")
    tab.page.wait_for_function(f"{width} === 640")
    assert "No enlarged copy" not in tab.page.locator("#viewer .words").inner_text()
    tab.page.close()


# ---- keys on the page


def test_keys_go_from_hit_to_hit(browser, pages):
    tab = opened(browser, pages["three"].file)
    seen = []
    for key in ("j", "j", "j", "k", "n", "j", "n", "n", "p"):
        tab.page.keyboard.press(key)
        seen.append(focused(tab))
    assert seen == [
        *("Query: 9.png", "Hit 1: 0.png", "Hit 2: 1.png", "Hit 1: 0.png"),
        *("Query: 10.png", "Hit 1: 0.png", "Query: 11.png", "Query: 11.png", "Query: 10.png"),
    ]
    tab.page.keyboard.press("Enter")
    assert viewer(tab) == ["Query: 10.png", "the query"]
    tab.page.close()


def test_arrows_go_by_rows(browser, pages):
    tab = opened(browser, pages["one"].file, 1400)
    tops = tab.page.eval_on_selector_all(".hit", "all => all.map(e => e.offsetTop)")
    columns = tops.count(tops[0])
    assert 3 <= columns < 12
    tab.page.locator(".hit .frame").first.focus()
    tab.page.keyboard.press("ArrowRight")
    tab.page.keyboard.press("ArrowDown")
    assert focused(tab) == f"Hit {columns + 2}: {columns + 1}.png"
    tab.page.keyboard.press("ArrowUp")
    tab.page.keyboard.press("ArrowLeft")
    assert focused(tab) == "Hit 1: 0.png"
    tab.page.close()


def test_question_mark_shows_the_keys(browser, pages):
    tab = opened(browser, pages["one"].file)
    is_open = "document.querySelector('#keys').open"
    tab.page.keyboard.press("?")
    assert tab.page.evaluate(is_open)
    tab.page.keyboard.press("j")  # nothing moves behind it
    tab.page.keyboard.press("Escape")
    assert not tab.page.evaluate(is_open)
    tab.page.locator("#ask").click()
    assert tab.page.evaluate(is_open)
    tab.page.keyboard.press("?")
    assert not tab.page.evaluate(is_open) and tab.said == []
    tab.page.close()


def test_a_screen_reader_hears_names_and_roles(browser, pages):
    tab = opened(browser, pages["three"].file)
    page = tab.page
    assert page.get_by_role("navigation", name="Queries").get_by_role("link").count() == 3
    assert page.get_by_role("region", name="10.png").count() == 1
    button = page.get_by_role("region", name="10.png").get_by_role(
        "button", name="Enlarge hit 3: 2.png"
    )
    assert button.count() == 1
    button.click()
    dialog = page.get_by_role("dialog", name="Hit 3: 2.png")
    assert dialog.count() == 1 and dialog.get_by_role("img", name="2.png", exact=True).count() == 1
    for name in ("Close", "Previous", "Next"):
        assert dialog.get_by_role("button", name=name).count() == 1
    assert page.locator("img:not([alt])").count() == 0
    tab.page.close()


def test_a_thousand_hits(browser, tmp_path):
    """Shown within seconds, most of it not laid out until it is scrolled to."""
    files = some(tmp_path, 40)
    page = written(tmp_path, "p.html", [answer([files[i % 40] for i in range(1000)])])
    started = time.monotonic()
    tab = opened(browser, page.file)
    assert time.monotonic() - started < 5
    assert tab.page.locator(".hit").count() == 1000
    skipped = """[...document.querySelectorAll('.hit .frame')].filter(
      e => !e.checkVisibility({contentVisibilityAuto: true})).length"""
    assert tab.page.evaluate(skipped) > 800
    tab.page.keyboard.press("j")
    tab.page.locator(".hit .frame").first.click()
    tab.page.keyboard.press("End")
    assert viewer(tab)[1] == "1000 of 1000"
    tab.page.keyboard.press("Escape")
    assert tab.page.evaluate(
        "document.activeElement.getBoundingClientRect().bottom <= innerHeight + 1"
    )
    tab.page.close()
