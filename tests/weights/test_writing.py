"""Our writer of safetensors beside the library's reader, and memory given back while it writes."""

import subprocess
import sys

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from cgdcli.weights.checkpoint import tensor_bytes
from cgdcli.weights.header import read_header
from cgdcli.weights.mapped import pages_of
from cgdcli.weights.writing import write_tensors

DTYPES = [torch.float32, torch.float64, torch.float16, torch.bfloat16, torch.int64]
NAMES = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=12).filter(
    lambda name: name != "__metadata__"
)
SHAPES = st.lists(st.integers(0, 5), max_size=3)


@settings(max_examples=60, deadline=None)
@given(st.dictionaries(NAMES, st.tuples(SHAPES, st.sampled_from(DTYPES)), max_size=8), NAMES)
def test_the_library_reads_what_was_written(tmp_path_factory, wanted, note):
    tensors = {name: (torch.rand(shape) * 9).to(dtype) for name, (shape, dtype) in wanted.items()}
    path = tmp_path_factory.mktemp("w") / "x.safetensors"
    write_tensors(path, tensor_bytes(tensors), {"note": note})
    back = load_file(path)
    assert back.keys() == tensors.keys()
    assert all(torch.equal(back[n], t) and back[n].dtype == t.dtype for n, t in tensors.items())
    with safe_open(path, "pt") as opened:
        assert opened.metadata() == {"note": note}
    header = read_header(path)
    assert header.data_start % 64 == 0
    # The library's own file has the same order and the same bytes behind its header.
    library = path.with_name("y.safetensors")
    save_file(tensors, library)
    theirs = read_header(library)
    assert path.read_bytes()[header.data_start :] == library.read_bytes()[theirs.data_start :]


def test_progress_ends_at_the_end(tmp_path):
    seen = []
    tensors = {"a": torch.zeros(5_000_000), "b": torch.zeros(3)}
    write_tensors(
        tmp_path / "x.safetensors", tensor_bytes(tensors), {}, lambda *done: seen.append(done)
    )
    assert len(seen) >= 3 and seen == sorted(seen)
    assert seen[-1] == (20_000_012, 20_000_012)


def test_memory_of_ones_own_is_never_given_back():
    tensor = torch.rand(8_000_000)
    before = tensor.clone()
    pages = pages_of(tensor_bytes({"a": tensor})[0][3])
    assert not pages.clean
    pages.release(0, 32_000_000)
    assert torch.equal(tensor, before)


def test_a_mapping_that_was_written_to_is_never_given_back(tmp_path):
    """A model that was loaded, then trained in place: its new weights are nowhere else."""
    torch.save({"a": torch.zeros(8_000_000)}, tmp_path / "x.pth")
    tensor = torch.load(tmp_path / "x.pth", mmap=True)["a"]
    tensor[4_000_000] = 7
    pages = pages_of(tensor_bytes({"a": tensor})[0][3])
    assert not pages.clean
    pages.release(0, 32_000_000)
    assert tensor[4_000_000] == 7


SCRIPT = """
import sys, torch
from pathlib import Path
from cgdcli.weights.checkpoint import tensor_bytes
from cgdcli.weights.writing import write_tensors
def rss(what):
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith(what)).split()[1])
tensors = torch.load(sys.argv[1], mmap=True)
before = rss("VmRSS")
write_tensors(Path(sys.argv[2]), tensor_bytes(tensors), {})
print(rss("VmHWM") - before, torch.equal(tensors["a"], torch.arange(60_000_000.0)))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_a_mapped_file_is_written_in_little_memory(tmp_path):
    torch.save({"a": torch.arange(60_000_000.0)}, tmp_path / "x.pth")  # 240 MB
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, tmp_path / "x.pth", tmp_path / "x.safetensors"],
        capture_output=True,
        text=True,
        check=True,
    )
    grown, same = done.stdout.split()
    assert same == "True"
    assert int(grown) < 60_000  # kB; the library's writer: 240 000
