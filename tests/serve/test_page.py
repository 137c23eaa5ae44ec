"""The page of `cgd serve` in a real browser: drop, click, filter, weigh, keys, addresses."""

import base64
import re
import shutil
import signal
import socket
import subprocess
import sys
import time

import pytest
from cli_toys import draw, environment, process
from serving import served

from cgdcli import embed_images
from cgdcli.cli import main


@pytest.fixture(scope="module")
def server(toy):
    with served(toy.index, rate=10_000) as running:
        yield running


@pytest.fixture
def tab(browser, server):
    """The page, once it has begun; it must never complain."""
    context = browser.new_context(viewport={"width": 1200, "height": 900})
    page, wrong = context.new_page(), []
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on("console", lambda said: wrong.append(said.text) if said.type == "error" else None)
    page.goto(server.address + "/")
    page.wait_for_selector(".hit img")
    yield page
    assert not wrong
    context.close()


def hits(tab, words="hit"):
    tab.wait_for_selector(f"#status:has-text('{words}')")
    return [name.text_content() for name in tab.query_selector_all(".hit .name")]


def labels(tab):
    return [re.sub(r"\W", "", b.text_content()) for b in tab.query_selector_all(".hit b")]


def ask_row(tab, row):
    tab.evaluate(f"location.hash = '#row={row}'")
    return hits(tab, f"like row {row}")


def test_a_dropped_picture(tab, tmp_path):
    data = base64.b64encode(draw(tmp_path / "q.png", "red", 50).read_bytes()).decode()
    tab.evaluate(
        """(text) => { const bytes = Uint8Array.from(atob(text), (c) => c.charCodeAt(0));
        const carried = new DataTransfer();
        carried.items.add(new File([bytes], "q.png", { type: "image/png" }));
        dispatchEvent(new DragEvent("drop", { dataTransfer: carried, cancelable: true })); }""",
        data,
    )
    assert len(hits(tab, "like your picture")) == 9 and labels(tab)[0] == "red"
    assert tab.query_selector("#drop img").get_attribute("src").startswith("blob:")


def test_a_pasted_and_a_chosen_picture(tab, tmp_path):
    file = draw(tmp_path / "q.png", "green", 50)
    tab.set_input_files("#file", file)
    hits(tab, "like your picture")
    assert labels(tab)[0] == "green"
    other = base64.b64encode(draw(tmp_path / "p.png", "blue", 50).read_bytes()).decode()
    tab.evaluate(
        """(text) => { const bytes = Uint8Array.from(atob(text), (c) => c.charCodeAt(0));
        const carried = new DataTransfer();
        carried.items.add(new File([bytes], "p.png", { type: "image/png" }));
        dispatchEvent(new ClipboardEvent("paste", { clipboardData: carried })); }""",
        other,
    )
    tab.wait_for_selector(".hit:first-child b:has-text('blue')")


def test_what_is_no_picture_is_said(tab, tmp_path):
    (tmp_path / "a.txt").write_text("words")
    tab.set_input_files("#file", tmp_path / "a.txt")
    assert "a.txt is no picture" in tab.text_content("#status")


def test_a_click_searches_from_a_hit_and_back_goes_back(tab):
    first = ask_row(tab, 2)
    tab.click(".hit:nth-child(4) .from")
    tab.wait_for_selector("#status:not(:has-text('like row 2,'))")
    assert "row=" in tab.url and "row=2&" not in tab.url + "&"
    tab.go_back()
    assert hits(tab, "like row 2") == first


def test_a_label_filters_and_a_threshold_cuts(tab):
    ask_row(tab, 0)
    tab.fill("#label", "green")
    tab.press("#label", "Enter")
    tab.wait_for_selector("#status:has-text('3 hits')")
    assert labels(tab) == ["green"] * 3
    tab.click("#reset")
    tab.wait_for_selector("#status:has-text('9 hits')")
    tab.fill("#least", "1")
    tab.wait_for_selector("#status:has-text('1 hit like')")


def test_sliders_weigh_the_branches_and_the_address_keeps_it(tab, server, browser):
    ask_row(tab, 1)
    tab.fill("#wS", "0")
    tab.wait_for_selector("#oS:has-text('0.00')")
    expected = server.get("/api/search?row=1&k=30&branches=S=0,G=1").json["hits"]
    value = f"{expected[1]['similarity']:.3f}"
    tab.wait_for_selector(f".hit:nth-child(2) .line:has-text('{value}')")
    tab.wait_for_url("**branches=S%3D0%2CG%3D1**")
    other = browser.new_page()
    other.goto(tab.url)
    other.wait_for_selector(f".hit:nth-child(2) .line:has-text('{value}')")
    assert other.input_value("#wS") == "0" and other.input_value("#wG") == "1"
    other.close()


def test_the_address_of_a_dropped_picture_shows_the_same_elsewhere(tab, tmp_path, browser):
    tab.set_input_files("#file", draw(tmp_path / "q.png", "red", 50))
    mine = hits(tab, "like your picture")
    other = browser.new_page()
    other.goto(tab.url)
    assert hits(other, "like your picture") == mine
    other.close()


def test_keys(tab):
    ask_row(tab, 0)
    tab.focus("body")
    tab.keyboard.press("ArrowRight")
    tab.keyboard.press("ArrowRight")
    place = "[...document.querySelectorAll('.from')].indexOf(document.activeElement)"
    assert tab.evaluate(place) == 1
    tab.keyboard.press("Space")
    tab.wait_for_selector("#viewer[open]")
    assert tab.text_content("#caption").startswith("2, similarity")
    tab.keyboard.press("ArrowRight")
    assert tab.text_content("#caption").startswith("3, similarity")
    tab.keyboard.press("Escape")
    tab.wait_for_selector("#viewer", state="hidden")
    tab.wait_for_selector(".hit:nth-child(3) .from:focus")
    tab.keyboard.press("Enter")
    tab.wait_for_selector("#status:not(:has-text('like row 0,'))")
    tab.keyboard.press("/")
    assert tab.evaluate("document.activeElement.id") == "label"
    tab.keyboard.press("Tab")
    tab.focus("#reset")
    tab.keyboard.press("?")
    assert tab.query_selector("#help[open]")


@pytest.mark.parametrize("width", [380, 1400])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_nothing_is_wider_than_the_window_and_ink_is_not_paper(browser, server, width, scheme):
    page = browser.new_page(viewport={"width": width, "height": 800}, color_scheme=scheme)
    page.goto(server.address + "/#row=0")
    hits(page, "like row 0")
    assert page.evaluate("document.documentElement.scrollWidth") == width
    style = "getComputedStyle(document.body)"
    ground = page.evaluate(f"{style}.backgroundColor")
    light = sum(map(int, re.findall(r"\d+", ground)[:3])) > 380
    assert light == (scheme == "light")
    page.close()


def test_a_real_process_says_its_address_and_ends_with_ctrl_c(toy):
    line = [sys.executable, "-m", "cgdcli", "serve", "--index", "feats.npy", "--port", "0"]
    with subprocess.Popen(
        line, cwd=toy.folder, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as running:
        address = running.stdout.readline().decode().strip()
        port = int(re.fullmatch(r"http://127\.0\.0\.1:(\d+)/", address)[1])
        taken = process("serve", "--index", "feats.npy", "--port", port, cwd=toy.folder)
        half = b"POST /api/search HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99\r\n\r\nx"
        with socket.create_connection(("127.0.0.1", port)) as slow:
            slow.sendall(half)
            time.sleep(0.3)
            running.send_signal(signal.SIGINT)
            _, said = running.communicate(timeout=20)
    assert running.returncode == 130 and b"stopped by Ctrl-C" in said
    assert b"Traceback" not in said
    assert taken.code == 1 and f"127.0.0.1:{port}" in taken.err and "--port" in taken.err


@pytest.mark.parametrize(("host", "warned"), [("0.0.0.0", True), ("localhost", False)])
def test_it_is_said_when_others_can_search(host, warned, monkeypatch, capsys):
    def ready(index, config, *, on_ready, **_):
        assert (config.host, config.names) == (host, ("pictures.lan",))
        on_ready("http://127.0.0.1:8000/")

    monkeypatch.setattr("cgdcli.serve.running.run_server", ready)
    argv = ["serve", "--index", "feats.npy", "--host", host, "--allow-name", "pictures.lan"]
    assert main(argv) == 0
    shown = capsys.readouterr()
    assert shown.out == "http://127.0.0.1:8000/\n"
    assert ("without a password" in shown.err) is warned


def test_a_click_and_an_address_are_not_another_picture_once_the_index_was_renewed(
    toy, tmp_path, browser
):
    shutil.copytree(toy.folder / "imgs", tmp_path / "imgs")
    index = tmp_path / "feats.npy"
    embed_images([tmp_path / "imgs"], index, model=toy.model)
    with served(index, rate=10_000) as server:
        mine, other = browser.new_page(), browser.new_page()
        mine.goto(server.address + "/#row=2")
        assert len(hits(mine, "like row 2")) == 9
        shared = mine.url
        assert "of=" in shared
        min((tmp_path / "imgs/blue").iterdir()).unlink()  # the first row: all others move up
        embed_images([tmp_path / "imgs"], index, model=toy.model, rebuild=True)
        mine.click(".hit:nth-child(3) .from")
        other.goto(shared)
        for page in (mine, other):
            page.wait_for_selector("#status.bad:has-text('The index was renewed since: row')")
            assert "Search again from one of these" in page.text_content("#status")
            assert page.text_content("#about").startswith("feats.npy: 8 pictures")
            page.click(".hit:nth-child(4) .from")  # of what is there now
            assert len(hits(page, "like row 3")) == 8
            assert page.url != shared and "of=" in page.url
        other.goto(server.address + "/#row=2")  # of no generation: whatever it is
        assert len(hits(other, "like row 2")) == 8
        mine.close()
        other.close()


def test_no_branch_that_counts_is_said_and_not_asked(tab):
    ask_row(tab, 1)
    asked = []
    tab.on("request", lambda request: asked.append(request.url))
    tab.fill("#wS", "0")
    tab.wait_for_url("**branches=S%3D0%2CG%3D1**")
    tab.fill("#wG", "0")
    tab.wait_for_selector("#status.bad:has-text('No branch counts')")
    assert not tab.query_selector_all(".hit")
    assert not [url for url in asked if "G%3D0" in url and "/api/search" in url]
    tab.fill("#wG", "0.5")
    assert len(hits(tab, "like row 1")) == 9


def test_only_as_many_hits_are_offered_as_an_answer_has(toy, browser):
    with served(toy.index, rate=10_000, most_hits=20) as server:
        page = browser.new_page()
        page.goto(server.address + "/#row=1")
        hits(page, "like row 1")
        offered = page.eval_on_selector_all("#k option", "all => all.map((one) => one.value)")
        assert offered == ["12", "20"] and page.input_value("#k") == "20"
        page.goto(server.address + "/#row=1&k=300")
        page.wait_for_selector("#status.bad:has-text('at most 20')")
        page.close()
