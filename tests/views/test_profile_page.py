"""The profile's page in a real browser: light and dark, wide and narrow, all of it in the file."""

import pytest

from cgdcli import CGDConfig, ProfileConfig, Transform, compare_models, profile_model
from cgdcli.config import StrideMode
from cgdcli.profiling import machine
from cgdcli.reports import MachinePeaks
from cgdcli.views.charts import bars, page, roofline_chart, table
from cgdcli.views.profile_page import profile_page

TINY = CGDConfig(classes=3, transform=Transform(image_size=32))
QUICK = ProfileConfig(batch_sizes=(1, 2), repeats=2, warmup=0, roofline=True)
PEAKS = MachinePeaks("cpu", 2, 100.0, 10.0, "by definition")
# Luminance by WCAG 2.2, of what the browser says that text and ground are.
CONTRAST = """() => {
  const lum = c => { const v = c.match(/[\\d.]+/g).slice(0, 3).map(x => x / 255)
    .map(x => x <= .04045 ? x / 12.92 : ((x + .055) / 1.055) ** 2.4);
    return .2126 * v[0] + .7152 * v[1] + .0722 * v[2]; };
  const ground = lum(getComputedStyle(document.body).backgroundColor);
  return [...document.querySelectorAll('h1, h2, p, td, th, dt, dd.value, figure text')].map(e => {
    const s = getComputedStyle(e), ink = lum(e.closest('svg') ? s.fill : s.color);
    return (Math.max(ink, ground) + .05) / (Math.min(ink, ground) + .05); });
}"""


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pages")
    strides = (StrideMode.layer3, StrideMode.standard)
    models = {mode.value: CGDConfig(stride=mode, transform=TINY.transform) for mode in strides}
    with pytest.MonkeyPatch.context() as patch:  # to measure them takes seconds
        patch.setattr(machine, "machine_peaks", lambda config: PEAKS)
        single = profile_page(profile_model(TINY, QUICK))
        both = {"one": single, "several": profile_page(compare_models(models, QUICK))}
    for name, text in both.items():
        (folder / f"{name}.html").write_text(text, encoding="utf-8")
    return {name: folder / f"{name}.html" for name in both}


@pytest.mark.parametrize("name", ["one", "several"])
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 360])
def test_is_readable(browser, pages, name, scheme, width):
    tab = browser.new_page(viewport={"width": width, "height": 800}, color_scheme=scheme)
    asked, said = [], []
    tab.on("request", lambda request: asked.append(request.url))
    tab.on("console", lambda message: said.append(message.text))
    tab.goto(pages[name].as_uri())
    assert asked == [pages[name].as_uri()] and said == []
    assert tab.evaluate("document.documentElement.scrollWidth") <= width
    assert min(tab.evaluate(CONTRAST)) >= 4.5
    ground = tab.evaluate("getComputedStyle(document.body).backgroundColor")
    assert ground == ("rgb(255, 255, 255)" if scheme == "light" else "rgb(20, 23, 27)")
    for bar in tab.query_selector_all("dl.bars svg"):
        assert bar.bounding_box()["width"] > 80
    tab.close()


def test_every_stage_has_a_bar_and_a_dot(browser, pages):
    tab = browser.new_page()
    tab.goto(pages["one"].as_uri())
    names = tab.eval_on_selector_all("dl.bars dt", "all => all.map(e => e.textContent)")
    dots = tab.eval_on_selector_all("figure circle", "all => all.length")
    for stage in ("stem", "layer1", "layer4", "branch S", "branch G"):
        assert names.count(stage) == 3  # MACs, parameters, time
    assert dots == 7
    tab.close()


def test_names_of_dots_do_not_lie_on_each_other(browser, tmp_path):
    points = [(f"layer{i}", 50.0 + i, 300.0 + i) for i in range(6)]
    (tmp_path / "p.html").write_text(page("x", [roofline_chart(points, 400.0, 40.0)]))
    tab = browser.new_page()
    tab.goto((tmp_path / "p.html").as_uri())
    boxes = [
        e.bounding_box()
        for e in tab.query_selector_all("figure text")
        if e.text_content().startswith("layer")
    ]
    assert len(boxes) == 6
    for i, a in enumerate(boxes):
        for b in boxes[i + 1 :]:
            apart_x = a["x"] + a["width"] <= b["x"] or b["x"] + b["width"] <= a["x"]
            apart_y = a["y"] + a["height"] <= b["y"] + 3 or b["y"] + b["height"] <= a["y"] + 3
            assert apart_x or apart_y
    tab.close()


def test_bars_are_as_long_as_their_numbers(browser, tmp_path):
    (tmp_path / "p.html").write_text(page("x", [bars([("a", 1, "1"), ("b", 4, "4")])]))
    tab = browser.new_page()
    tab.goto((tmp_path / "p.html").as_uri())
    short, long = (e.bounding_box()["width"] for e in tab.query_selector_all("rect.bar"))
    assert long == pytest.approx(4 * short, rel=0.01)
    tab.close()


def test_words_cannot_become_markup():
    nasty = '<script>alert(1)</script>&"'
    text = page(nasty, [bars([(nasty, 1, nasty)]), table([nasty], [[nasty]]),
                        roofline_chart([(nasty, 1.0, 1.0)], 2.0, 2.0)])  # fmt: skip
    assert "<script>" not in text and "&lt;script&gt;" in text
