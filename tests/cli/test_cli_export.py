"""`cgd export`, as typed; and the examples that serve what it wrote, where there is no cgd."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from cli_toys import check_failure, draw, picture
from PIL import ExifTags, Image

EXAMPLES = Path(__file__).parents[2] / "examples"
# As on a machine that has neither: importing one of them is an ImportError.
ALONE = """
import runpy, sys
for name in ("cgdcli", "torch", "torchvision"):
    sys.modules[name] = None
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


def serve(example, *arguments):
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    command = [sys.executable, "-c", ALONE, EXAMPLES / example, *arguments]
    done = subprocess.run(
        list(map(str, command)), env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.fixture
def here(in_toy, tmp_path, monkeypatch):
    """Pictures of our own, and the toy's model, which lies elsewhere."""
    draw(tmp_path / "imgs" / "small.png", "red", 0)
    draw(tmp_path / "imgs" / "plain.png", "green", 0)
    on_its_side = Image.Exif()
    on_its_side[ExifTags.Base.Orientation] = 6
    large = picture("blue", 0, (800, 600))
    large.save(tmp_path / "imgs" / "large.jpg", exif=on_its_side, quality=95)
    monkeypatch.chdir(tmp_path)
    return in_toy


@pytest.mark.parametrize(
    ("name", "example"), [("m.onnx", "serve_onnx.py"), ("m.xml", "serve_openvino.py")]
)
def test_an_example_gives_what_embed_gives(cgd, here, name, example):
    ran = cgd("export", here.run, "-o", name, "--images", "imgs", "--json")
    assert ran.code == 0, ran.err
    report = json.loads(ran.out)
    assert report["target"] == name and report["embedding_dim"] == 512
    assert report["parity"]["pictures"] == 3 and report["parity"]["neighbours"] == 1
    assert 0 < report["parity"]["difference"] < 1e-5
    assert "batches of 1, 2, 5" in ran.err and "3 pictures of imgs" in ran.err
    assert cgd("embed", "imgs", "-o", "f.npy", "--model", here.run, "-q").code == 0
    rows, files = np.load("f.npy"), ("imgs/large.jpg", "imgs/small.png")  # rows 0 and 2
    assert np.abs(np.array(serve(example, name, files[0])) - rows[0]).max() < 1e-5
    assert serve(example, name, *files) == pytest.approx(float(rows[0] @ rows[2]), abs=1e-5)


def test_the_newest_run_without_a_word(cgd, in_toy, tmp_path):
    ran = cgd("export", "-o", tmp_path / "m.xml", "-v")
    assert ran.code == 0 and ran.out == ""
    assert "the newest finished run" in ran.err
    assert "32 pictures drawn" in ran.err and "--images DIR" in ran.err
    assert "image_size: 32" in ran.err and "normalization: in the graph" in ran.err


def test_failures(cgd, here):
    check_failure(cgd("export", here.model, "-o", "m.xml", "--tolerance", "0", "-q"), 1, "differs")
    check_failure(cgd("export", here.model, "-o", "m.pt"), 1, "m.pt", ".onnx")
    check_failure(cgd("export", "gone.safetensors", "-o", "m.onnx"), 1, "gone.safetensors")
    check_failure(cgd("export", here.model, "-o", "no/m.onnx"), 1, "no")
    check_failure(cgd("export", here.model, "-o", "m.onnx", "--tolerance", "2"), 2, "--tolerance 2")
    check_failure(cgd("export", here.model, "-o", "m.xml", "--images", "gone", "-q"), 1, "gone")
    assert [entry.name for entry in Path().iterdir()] == ["imgs"]
    Path("m.onnx").write_text("old")
    check_failure(cgd("export", here.model, "-o", "m.onnx"), 1, "m.onnx", "exists")
    assert Path("m.onnx").read_text() == "old"
