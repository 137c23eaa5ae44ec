"""A run's page in a real browser: whole, offline, readable, and its map shows pictures."""

import sys
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from test_profile_page import CONTRAST

from cgdcli.evaluation.details import confused_pairs, measures
from cgdcli.judging.insights import branch_recalls, extreme_queries, map_points
from cgdcli.reports import EpochReport, RunReport
from cgdcli.views.curves import MOST_POINTS, interval_bars, line_chart
from cgdcli.views.embedding_map import COLUMNS, SIDE
from cgdcli.views.run_page import run_page

sys.path.insert(0, str(Path(__file__).parents[1] / "judging"))
from judgements import clustered, judgement

NASTY = '<img src=x onerror="alert(1)">&\'</script>'
# Text of tiles, keys and the card, by the ground it stands on.
MORE_CONTRAST = CONTRAST.replace(
    "'h1, h2, p, td, th, dt, dd.value, figure text'",
    "'.tile, .tile b, .key, label, select, .soft, strong, figcaption'",
)


def epoch(number, recall, report, **changes):
    judged = replace(report, recall=dict.fromkeys(report.recall, recall))
    plain = EpochReport(number, 3, 1e-4, 3.0 / number, 2.5 / number, 0.5 / number, 1.0, 0.4, 80.0,
                        60.0 * number, judged, is_best=number == 2)  # fmt: skip
    return replace(plain, **changes)


def run_report(paths=None, *, classes=4, each=5, names=None):
    rows, labels = clustered(classes, each, spread=1.6)
    labels = [names[int(label[1:])] if names else label for label in labels]
    judged = judgement(rows, labels, paths(labels) if paths else None)
    blocks = [("S", 0, 4), ("M", 4, 8), ("G", 8, 12)]
    branches, asked = branch_recalls(judged, blocks)
    points, plane = map_points(judged, 600)
    before = epoch(1, 0.3, judged.report, epoch=0, loss=None, class_loss=None, ranking_loss=None)
    return RunReport(
        run="a run", model=Path("runs/a run/best.safetensors"), fingerprint="ab" * 32, data="data",
        what="test", judged_on="held-out classes", settings={"backbone": "resnet18",
        "descriptors": "SMG", "embedding_dim": 12, "image_size": 64, "epochs": 3},
        epochs=(before, *(epoch(n, 0.3 + 0.1 * n, judged.report) for n in (1, 2, 3))),
        best_epoch=2, seconds=180.0, result=judged.report, measures=measures(judged),
        best=extreme_queries(judged, 8, best=True), worst=extreme_queries(judged, 8, best=False),
        confused=confused_pairs(judged, 8), branches=branches, branch_queries=asked,
        points=points, plane=plane,
    )  # fmt: skip


def draw(folder, size=(90, 60)):
    """A picture for each row: one colour, by its number."""

    def paths(labels):
        found = []
        for i, _ in enumerate(labels):
            file = folder / f"{i}.png"
            Image.new("RGB", size, (12 * i % 256, 40, 255 - 12 * i % 256)).save(file)
            found.append(file)
        return found

    return paths


@dataclass
class Tab:
    """A page in the browser, what it asked for and what it said."""

    page: object
    asked: list
    said: list


def opened(browser, file, width=1280, scheme="light"):
    page = browser.new_page(viewport={"width": width, "height": 800}, color_scheme=scheme)
    tab = Tab(page, [], [])
    page.on("request", lambda request: tab.asked.append(request.url))
    page.on("console", lambda message: tab.said.append(message.text))
    page.on("pageerror", lambda error: tab.said.append(str(error)))
    page.goto(file.as_uri())
    return tab


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("page")
    report = run_report(draw(folder))
    lonely = run_report(classes=1, each=1)
    found = {
        "whole": report,
        "nasty": run_report(draw(folder), names=[NASTY, "x" * 200, "a b", "\udcff"]),
        "gone": run_report(),
        "small": replace(lonely, epochs=lonely.epochs[:2], best_epoch=None),
        "long": replace(report, epochs=(report.epochs[0], *(
            epoch(n, 0.5 + n / 4000, report.result) for n in range(1, 1001)))),
    }  # fmt: skip
    for name, each in found.items():
        (folder / f"{name}.html").write_text(run_page(each), encoding="utf-8")
    return {name: folder / f"{name}.html" for name in found}


@pytest.mark.parametrize("name", ["whole", "nasty", "gone", "small", "long"])
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 360])
def test_is_readable_and_whole(browser, files, name, scheme, width):
    tab = opened(browser, files[name], width, scheme)
    outside = [url for url in tab.asked if not url.startswith("data:image/jpeg;base64,")]
    assert outside == [files[name].as_uri()] and tab.said == []
    assert tab.page.evaluate("document.documentElement.scrollWidth") <= width
    assert min(tab.page.evaluate(CONTRAST)) >= 4.5
    assert min(tab.page.evaluate(MORE_CONTRAST)) >= 4.5
    ground = tab.page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert ground == ("rgb(255, 255, 255)" if scheme == "light" else "rgb(20, 23, 27)")
    broken = "all => all.filter(e => !e.naturalWidth).length"
    assert tab.page.eval_on_selector_all("img", broken) == 0
    tab.page.close()


def test_holds_every_part(browser, files):
    tab = opened(browser, files["whole"])
    titles = tab.page.eval_on_selector_all("h2", "all => all.map(e => e.textContent)")
    assert titles == ["Recall on test", "Training", "Branches", "Worst queries", "Best queries",
                      "Most confused classes", "Map of the embeddings", "Settings"]  # fmt: skip
    charts = tab.page.eval_on_selector_all(
        ".curves figcaption", "all => all.map(e => e.textContent)"
    )
    for word in ("Recall@1 and mAP@R", "class loss", "ranking loss", "active triplets", "learning"):
        assert any(word in chart for chart in charts)
    assert tab.page.locator(".dot").count() == 20
    lines = tab.page.locator("ul.sheet:not(.pairs) > li")
    assert lines.count() == 16 and lines.first.locator(".tile").count() == 6
    tab.page.close()


def test_a_tile_says_right_or_wrong_without_colour(browser, files):
    tab = opened(browser, files["whole"])
    for kind, mark, style in (("right", "✓right", "solid"), ("wrong", "✗wrong", "dashed")):
        tiles = tab.page.locator(f"ul.sheet:not(.pairs) .tile.{kind}")
        assert tiles.count() > 0
        assert mark in tiles.first.text_content().replace(" ", "")
        border = "e => getComputedStyle(e).borderTopStyle"
        assert tiles.first.locator(".frame").evaluate(border) == style
    tab.page.close()


def card(tab):
    """What the map shows: nothing, or (label and file, offset of its picture in the sheet)."""
    return tab.page.evaluate("""() => { const c = document.querySelector('.map .card');
      const [label, file] = [...c.querySelectorAll('p')].map(e => e.textContent);
      const place = c.querySelector('.thumb').style.backgroundPosition;
      return c.hidden ? null : [label, file, place]; }""")


@pytest.mark.parametrize("width", [1280, 360])
def test_pointing_at_a_dot_shows_its_picture(browser, files, width):
    tab = opened(browser, files["whole"], width)
    tab.page.locator(".map svg").scroll_into_view_if_needed()
    dots = tab.page.locator(".dot")
    report = run_report()
    for i in (0, 7, 19):
        box = dots.nth(i).bounding_box()
        tab.page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
        label, file, offset = card(tab)
        place = f"{-SIDE * (i % COLUMNS)}px {-SIDE * (i // COLUMNS)}px"
        assert (label, file) == (report.points[i].label, f"{i}.png")
        assert offset.replace("-0px", "0px") == place
        shown = tab.page.locator(".map .card").bounding_box()
        assert shown["x"] >= 0 and shown["x"] + shown["width"] <= width
    assert tab.page.evaluate("document.documentElement.scrollWidth") <= width
    tab.page.mouse.move(1, 1)
    assert card(tab) is None and tab.said == []
    tab.page.close()


def test_the_picture_shown_is_the_right_one(browser, files):
    """By its colour, as it is on the screen: each row was drawn in its own."""
    import io

    tab = opened(browser, files["whole"])
    tab.page.locator(".map svg").scroll_into_view_if_needed()
    for i in (3, 11, 18):
        box = tab.page.locator(".dot").nth(i).bounding_box()
        tab.page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
        png = tab.page.locator(".map .thumb").screenshot()
        seen = np.asarray(Image.open(io.BytesIO(png)).convert("RGB")).reshape(-1, 3)
        wanted = (12 * i % 256, 40, 255 - 12 * i % 256)
        assert np.abs(np.median(seen, axis=0) - wanted).max() <= 6
    tab.page.close()


def test_keys_go_from_picture_to_picture(browser, files):
    tab = opened(browser, files["whole"])
    tab.page.locator(".map select").focus()
    tab.page.keyboard.press("Tab")
    seen = {card(tab)[1]}
    ring = "e => [+e.getAttribute('cx'), +e.getAttribute('cy')]"
    for key in ("ArrowRight", "ArrowDown", "ArrowLeft", "ArrowUp") * 5:
        before = tab.page.locator(".ring").evaluate(ring)
        tab.page.keyboard.press(key)
        after = tab.page.locator(".ring").evaluate(ring)
        place, way = (
            (0 if key in ("ArrowLeft", "ArrowRight") else 1),
            -1 + 2 * (key in ("ArrowRight", "ArrowDown")),
        )
        assert after == before or way * (after[place] - before[place]) > 0
        seen.add(card(tab)[1])
    assert len(seen) >= 4
    tab.page.keyboard.press("Escape")
    assert card(tab) is None
    tab.page.keyboard.press("PageDown")  # shows the first
    files_seen = [card(tab)[1]]
    for _ in range(21):
        tab.page.keyboard.press("PageDown")
        files_seen.append(card(tab)[1])
    assert files_seen == [f"{i}.png" for i in range(20)] + ["19.png"] * 2 and tab.said == []
    tab.page.close()


def test_choosing_a_class_dims_the_others(browser, files):
    tab = opened(browser, files["nasty"])
    names = tab.page.eval_on_selector_all(".map option", "all => all.map(e => e.textContent)")
    assert NASTY in names and "x" * 200 in names
    tab.page.locator(".map select").select_option(label=NASTY)
    assert tab.page.locator(".dot.dim").count() == 15
    assert tab.page.evaluate("document.documentElement.scrollWidth") <= 1280
    tab.page.close()


def test_words_cannot_become_markup():
    report = replace(run_report(names=[NASTY] * 4), run=NASTY, data=NASTY,
                     settings={NASTY: NASTY})  # fmt: skip
    assert "<img src=x" not in run_page(report)
    assert run_page(report).count("</script>") == 2


def test_size_is_bounded_by_the_worst_pictures(tmp_path):
    """Noise, which JPEG cannot pack: 600 on the map, all sheets full."""

    def noisy(labels):
        rng = np.random.default_rng(0)
        files = []
        for i, _ in enumerate(labels):
            files.append(tmp_path / f"{i}.png")
            Image.fromarray(rng.integers(0, 256, (120, 120, 3), dtype=np.uint8)).save(files[-1])
        return files

    report = run_report(noisy, classes=60, each=12)
    assert len(report.points) == 600 and len(report.best) == len(report.confused) == 8
    assert len(run_page(report).encode()) < 6_000_000


def test_numbers_of_epochs_that_came_later_are_shown_too():
    @dataclass(frozen=True)
    class LaterReport(EpochReport):
        queue_loss: float = 0.0
        extra: dict | None = None
        note: str = ""

    report = run_report()
    later = tuple(
        LaterReport(**vars(e), queue_loss=1.5, extra={"xbm": 2.0}, note="x") for e in report.epochs
    )
    text = run_page(replace(report, epochs=later))
    assert "queue loss" in text and "xbm" in text and "note" not in text


def test_a_curve_goes_through_its_points(browser, tmp_path):
    file = tmp_path / "c.html"
    chart = line_chart("loss", [("loss", [(1, 4.0), (2, 2.0), (3, float("nan")), (4, 1.0)])])
    file.write_text(f"<body>{chart}")
    tab = opened(browser, file)
    dots = tab.page.eval_on_selector_all("circle", "all => all.map(e => [e.cx.baseVal.value,"
                                         " e.cy.baseVal.value, e.textContent])")  # fmt: skip
    assert [d[2] for d in dots] == ["loss, epoch 1: 4", "loss, epoch 2: 2", "loss, epoch 4: 1"]
    (x1, y1, _), (x2, y2, _), (x4, y4, _) = dots
    assert (x4 - x1) == pytest.approx(3 * (x2 - x1), rel=0.01)
    assert (y4 - y1) == pytest.approx(1.5 * (y2 - y1), rel=0.01)
    tab.page.close()


@pytest.mark.parametrize(
    "values", [[], [0.0], [1.0, 1.0], [1e-9, 1e9], [-3.0, -3.0], [5e-324], [1.0, 1.0 + 2e-16]]
)
def test_curves_of_odd_values_are_finite(values):
    chart = line_chart("x", [("x", list(enumerate(values, 1)))])
    assert (chart == "") == (not values) and "nan" not in chart and "inf" not in chart


def test_long_curves_are_thinned_and_keep_their_ends():
    chart = line_chart("x", [("x", [(i, float(i)) for i in range(5000)])])
    points = chart.split('points="')[1].split('"')[0].split()
    assert len(points) == MOST_POINTS
    assert points[0].startswith("52.0,") and points[-1].startswith("330.0,")


def test_interval_bars_draw_what_they_say(browser, tmp_path):
    file = tmp_path / "i.html"
    style = "<style>svg{width:200px;height:10px}</style>"
    file.write_text(f"<body>{style}{interval_bars([('a', 0.5, 0.25, 0.75)])}")
    tab = opened(browser, file)
    track, bar, line = (tab.page.locator(f"rect.{k}").bounding_box()
                        for k in ("track", "bar", "interval"))  # fmt: skip
    assert bar["width"] == pytest.approx(track["width"] / 2)
    assert line["x"] - track["x"] == pytest.approx(track["width"] / 4)
    assert line["width"] == pytest.approx(track["width"] / 2)
    tab.page.close()
