"""What a weights file is: parts, entries, fingerprints; other tools' files; memory."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from reference import polluted, state_dict

from cgdcli.config import CGDConfig
from cgdcli.conversion import convert_weights, plan_conversion
from cgdcli.inspection import compare_files, inspect_file
from cgdcli.model.cgd import CGD, meta_model
from cgdcli.weights.checkpoint import Checkpoint
from cgdcli.weights.header import read_header

sys.path.insert(0, str(Path(__file__).parents[1] / "weights"))
import sources

SG = "resnet18_SG_256_21"
OLD = "0.0.31.post2005241907"


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """old.pth, polluted; half.pth; new.safetensors and half.safetensors, converted from them."""
    folder = tmp_path_factory.mktemp("weights")
    torch.save(polluted(SG, OLD), folder / "old.pth")
    halved = {n: v.half() if v.is_floating_point() else v for n, v in state_dict(SG).items()}
    torch.save(halved, folder / "half.pth")
    convert_weights(folder / "old.pth", folder / "new.safetensors")
    convert_weights(folder / "half.pth", folder / "half.safetensors")
    yield folder
    shutil.rmtree(folder)


# ---- weights


def test_parts_of_a_network_are_those_of_the_live_model(weights):
    report = inspect_file(weights / "new.safetensors")
    network = CGD(CGDConfig(descriptors="SG", embedding_dim=256, classes=21))
    whole = dict(network.named_parameters())
    stems = ("backbone.conv1", "backbone.bn1")
    starts = {f"layer{i}": (f"backbone.layer{i}.",) for i in range(1, 5)}
    starts |= {"stem": stems, "branches": ("branches.",), "classifier": ("classifier.",)}
    for group in report.groups:
        mine = [n for n in network.state_dict() if n.startswith(starts[group.name])]
        assert group.entries == len(mine)
        assert group.parameters == sum(whole[n].numel() for n in mine if n in whole)
        assert group.bytes == sum(
            network.state_dict()[n].numel() * network.state_dict()[n].element_size() for n in mine
        )
        assert sum(group.dtypes.values()) == group.entries
    assert [g.name for g in report.groups] == [
        *("stem", "layer1", "layer2", "layer3", "layer4", "branches", "classifier"),
    ]
    assert sum(g.parameters for g in report.groups) == sum(p.numel() for p in whole.values())


def test_parts_of_a_polluted_file_have_a_line_for_the_profiler(weights):
    groups = {group.name: group for group in inspect_file(weights / "old.pth").groups}
    assert groups["profiler"].entries == 52 and groups["profiler"].parameters == 0
    assert groups["profiler"].dtypes == {"float64": 52}
    assert sum(group.entries for group in groups.values()) == 181


def test_keys_of_our_file_are_its_header(weights):
    keys = inspect_file(weights / "new.safetensors", keys=True).keys
    header = read_header(weights / "new.safetensors")
    assert {key.name: key.shape for key in keys} == {
        name: entry.shape for name, entry in header.tensors.items()
    }
    assert sum(key.bytes for key in keys) == max(e.stop for e in header.tensors.values())
    assert all(key.status is None and key.becomes == key.name for key in keys)
    assert keys[0].group == "stem" and keys[-1].group == "classifier"


def test_keys_of_a_foreign_file_say_what_the_plan_says(weights):
    keys = inspect_file(weights / "old.pth", keys=True).keys
    plan = plan_conversion(weights / "old.pth")
    assert [(k.name, k.status, k.shape, k.dtype) for k in keys] == [
        (e.source, e.status, e.shape, e.dtype) for e in plan.entries
    ]
    assert {k.name: k.becomes for k in keys if k.status == "renamed"} == plan.renamed
    assert {k.name: k.why for k in keys if k.status == "dropped"} == plan.dropped
    assert all(k.elements * (4 if k.dtype == "float32" else 8) == k.bytes for k in keys)


def test_without_keys_none_are_listed(weights):
    assert inspect_file(weights / "old.pth").keys == ()


@pytest.mark.parametrize("name", ["old", "half"])
def test_a_foreign_file_has_the_fingerprint_of_its_conversion(weights, name):
    if name == "old":
        shutil.copy(weights / "new.safetensors", weights / "old.safetensors")
    before = inspect_file(weights / f"{name}.pth").facts
    after = inspect_file(weights / f"{name}.safetensors").facts
    assert before["fingerprint"] == after["fingerprint"]
    assert before["config"] == after["config"]


def test_a_file_that_does_not_convert_is_shown_with_the_reason(tmp_path):
    content = {n: v for n, v in state_dict(SG).items() if not n.startswith("auxiliary")}
    torch.save(content, tmp_path / "old.pth")
    report = inspect_file(tmp_path / "old.pth")
    # No embedding needs the classifier, so what identifies the embeddings is known.
    torch.save(state_dict(SG), tmp_path / "whole.pth")
    whole = inspect_file(tmp_path / "whole.pth").facts["fingerprint"]
    assert report.facts["fingerprint"] == whole and report.refusal is None
    assert any("would refuse it" in note and "classifier" in note for note in report.notes)
    assert any("--strict inference" in note for note in report.notes)
    assert {anomaly.kind for anomaly in report.anomalies} == {"missing entry"}


def test_a_checkpoint_of_another_version_is_shown_and_then_refused(weights, tmp_path):
    data = (weights / "new.safetensors").read_bytes()
    (tmp_path / "new.safetensors").write_bytes(
        data.replace(b'\\"format\\": 1', b'\\"format\\": 9', 1)
    )
    report = inspect_file(tmp_path / "new.safetensors")
    assert report.facts["entries"] == 129 and len(report.groups) == 7
    assert report.refusal is not None and report.refusal.exit_code == 1
    assert "9" in report.refusal.what


def test_a_sharded_file_is_one_file(tmp_path):
    from safetensors.torch import save_file

    content = state_dict(SG)
    names = list(content)
    parts = {"m-00001-of-00002.safetensors": names[:60], "m-00002-of-00002.safetensors": names[60:]}
    for file, held in parts.items():
        save_file({name: content[name] for name in held}, tmp_path / file)
    index = tmp_path / "m.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {n: f for f, held in parts.items() for n in held}}))
    for file in (index, *(tmp_path / part for part in parts)):
        report = inspect_file(file, keys=True)
        assert [key.name for key in report.keys] == names and report.anomalies == ()
        assert report.facts["bytes"] >= sum(key.bytes for key in report.keys)


def test_ours_and_rows_are_inspected_without_torch(weights, tmp_path):
    np.save(tmp_path / "rows.npy", np.eye(3, 4, dtype=np.float32))
    files = [str(weights / "new.safetensors"), str(tmp_path / "rows.npy")]
    code = (
        "import sys; from cgdcli.inspection import inspect_file\n"
        f"for file in {files!r}: inspect_file(file)\n"
        "print('torch' in sys.modules)"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout == "False\n"


PEAK = """
import sys, threading, time
import torch
from pathlib import Path
from cgdcli.inspection import compare_files, inspect_file

def anonymous():
    text = Path("/proc/self/status").read_text()
    return int(text.split("RssAnon:")[1].split()[0]) * 1024

inspect_file(sys.argv[1])  # what is loaded late is loaded now
peak, done = [], threading.Event()
def watch():
    while not done.is_set():
        peak.append(anonymous())
        time.sleep(0.002)
before = anonymous()
thread = threading.Thread(target=watch)
thread.start()
for file in sys.argv[2:]:
    inspect_file(file)
compare_files(*sys.argv[2:])
done.set()
thread.join()
print(max(peak) - before)
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="asks Linux for the memory used")
@pytest.mark.slow
def test_large_files_are_mapped_not_copied(weights, tmp_path):
    """Two files of 300 MB, looked at and compared, in less than a quarter of one of them."""
    config = CGDConfig(embedding_dim=2 * 65_536, classes=0)
    tensors = {
        name: torch.rand(value.shape) + 0.5 if value.is_floating_point() else torch.tensor(1)
        for name, value in meta_model(config).state_dict().items()
    }
    Checkpoint(config, tensors).save(tmp_path / "big.safetensors")
    torch.save({"state_dict": tensors}, tmp_path / "big.pth")
    size = (tmp_path / "big.pth").stat().st_size
    files = [str(tmp_path / name) for name in ("big.safetensors", "big.pth")]
    ran = subprocess.run(
        [sys.executable, "-c", PEAK, str(weights / "old.pth"), *files],
        capture_output=True,
        text=True,
        check=True,
    )
    for file in files:
        Path(file).unlink()
    assert size > 300e6 and int(ran.stdout) < size / 4


# ---- other tools' files

PAIR = ("trunk", "embedder")
TOOLS = {
    "cnnimageretrieval": lambda: sources.cnnimageretrieval().content,
    "deep image retrieval": lambda: sources.deep_image_retrieval().content,
    "pml": lambda: dict(zip(PAIR, sources.pml(sources.EMBEDDERS["MLP"]())[:2], strict=True)),
    "lightning": lambda: sources.lightning(fc=True).content,
    "torchvision": lambda: sources.torchvision_backbone().content,
    "ddp": lambda: {"model": {f"module.{n}": t for n, t in state_dict(SG).items()}, "epoch": 1},
}


@pytest.mark.parametrize(
    "tool",
    [pytest.param(t, marks=pytest.mark.slow if t in ("torchvision", "ddp") else ()) for t in TOOLS],
)
def test_sound_files_of_other_tools_raise_no_alarm(tool, tmp_path):
    torch.save(TOOLS[tool](), tmp_path / "old.pth")
    report = inspect_file(tmp_path / "old.pth", keys=True)
    assert report.anomalies == () and report.refusal is None
    assert report.kind.startswith("weights of ")
    plan = convert_weights(tmp_path / "old.pth")
    assert report.facts["fingerprint"] == plan.fingerprint
    assert [key.name for key in report.keys] == [entry.source for entry in plan.entries]
    assert compare_files(tmp_path / "old.pth", plan.target).same_embeddings
    shutil.rmtree(tmp_path)
