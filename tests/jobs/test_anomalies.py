"""What is odd in weights and rows is found and named; sound files raise no alarm."""

import numpy as np
import pytest
import torch
import torchvision
from reference import checkpoints, polluted, state_dict

from cgdcli.inspection import inspect_file
from cgdcli.inspection.anomalies import scan
from cgdcli.inspection.rows import row_anomalies, scan_rows
from cgdcli.inspection.tensors import BLOCK_VALUES, torch_tensor

SG = "resnet18_SG_256_21"
OLD, NEWEST = "0.0.31.post2005241907", "0.1.1.post2209072238"


def found(tmp_path, content):
    torch.save(content, tmp_path / "old.pth")
    return inspect_file(tmp_path / "old.pth")


def kinds(report):
    return {(anomaly.kind, anomaly.entry): anomaly for anomaly in report.anomalies}


@pytest.fixture
def clean():
    """The golden network, as a copy that may be spoilt."""
    return {name: value.clone() for name, value in state_dict(SG).items()}


# ---- one look at every value


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16])
def test_a_scan_counts_what_numpy_counts(dtype):
    values = torch.randn(5, 7, 3, generator=torch.Generator().manual_seed(1)).to(dtype)
    values[1, 2, 0] = values[4, 6, 2] = float("nan")
    values[0, 3, 1], values[2, 2, 2] = float("inf"), float("-inf")
    seen = scan(torch_tensor("a", values))
    wide = values.double().numpy()
    finite = wide[np.isfinite(wide)]
    assert (seen.nan, seen.inf) == (2, 2)
    assert seen.first_nan == 1 * 21 + 2 * 3 and seen.first_inf == 3 * 3 + 1
    assert (seen.low, seen.high) == (finite.min(), finite.max())


def test_a_scan_goes_on_over_blocks():
    values = torch.zeros(2 * BLOCK_VALUES + 5)
    values[[7, BLOCK_VALUES + 3, -1]] = torch.tensor([-2.0, float("nan"), 5.0])
    seen = scan(torch_tensor("a", values))
    assert (seen.nan, seen.first_nan, seen.low, seen.high) == (1, BLOCK_VALUES + 3, -2.0, 5.0)


@pytest.mark.parametrize("values", [torch.tensor(3), torch.empty(0, 4), torch.tensor([True])])
def test_scalars_empty_and_boolean_tensors_can_be_looked_at(values):
    seen = scan(torch_tensor("a", values))
    assert (seen.nan, seen.inf) == (0, 0)
    assert seen.constant == (values.numel() > 0)


def test_a_tensor_that_is_not_contiguous_is_read_row_by_row():
    values = torch.arange(6.0).reshape(2, 3).t()
    (block,) = torch_tensor("a", values).blocks()
    assert block.tolist() == [0, 3, 1, 4, 2, 5]


# ---- no false alarm


@pytest.mark.parametrize("model", checkpoints()["models"])
def test_golden_files_without_a_profiler_are_sound(model, tmp_path):
    report = found(tmp_path, state_dict(model))
    assert report.anomalies == () and report.refusal is None


def trained(network):
    """Statistics and affine values as training leaves them, the last two of a block equal."""
    rng = torch.Generator().manual_seed(0)
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.2, generator=rng)
            module.running_var.uniform_(0.1, 2, generator=rng)
            module.num_batches_tracked.fill_(500)
            with torch.no_grad():
                module.bias.normal_(0, 0.1, generator=rng)
    with torch.no_grad():
        # Both ways of a residual block end in a sum, so that their biases train alike.
        network.layer2[0].downsample[1].bias.copy_(network.layer2[0].bn2.bias)
    return network


def test_a_trained_torchvision_network_is_sound(tmp_path):
    content = trained(torchvision.models.resnet18()).state_dict()
    report = found(tmp_path, content)
    assert report.anomalies == ()
    assert not any("statistics" in note for note in report.notes)


@pytest.mark.parametrize("zero", [False, True])
def test_an_untrained_network_is_said_to_be_one_and_nothing_else(tmp_path, zero):
    network = torchvision.models.resnet18(zero_init_residual=zero)
    report = found(tmp_path, network.state_dict())
    layers = {n for n, m in network.named_modules() if isinstance(m, torch.nn.BatchNorm2d)}
    assert set(kinds(report)) == {("BatchNorm never trained", layer) for layer in layers}
    assert len(layers) == 20


def test_folded_batch_norm_is_worth_a_note_only(tmp_path):
    network = trained(torchvision.models.resnet18())
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.reset_running_stats()
    report = found(tmp_path, network.state_dict())
    assert report.anomalies == ()
    assert any("20 BatchNorm layers" in note and "folded" in note for note in report.notes)


# ---- every kind, by name


@pytest.mark.parametrize("version", [OLD, NEWEST])
def test_every_entry_of_a_profiler_is_named(version, tmp_path):
    report = found(tmp_path, polluted(SG, version))
    extra = set(polluted(SG, version)) - set(state_dict(SG))
    assert {anomaly.entry for anomaly in report.anomalies} == extra
    assert {anomaly.kind for anomaly in report.anomalies} == {"profiler entry"}


def spoil_nan(content):
    content["features.0.weight"].view(-1)[[3, 700]] = float("nan")


def spoil_inf(content):
    content["main_modules.1.0.weight"][127, 511] = float("-inf")


def spoil_variance(content):
    content["features.1.running_var"][4:7] = -0.5


def spoil_zero(content):
    content["features.4.0.conv1.weight"].zero_()


def spoil_constant(content):
    content["auxiliary_module.1.weight"].fill_(0.25)


def spoil_gate(content):
    content["features.5.0.bn1.weight"].zero_()


def spoil_duplicate(content):
    content["features.4.1.conv2.weight"].copy_(content["features.4.1.conv1.weight"])


def spoil_shared(content):
    content["main_modules.1.0.weight"] = content["main_modules.0.0.weight"]


def spoil_unknown(content):
    content["features.9.weight"] = torch.randn(3)


def spoil_missing(content):
    del content["features.7.1.conv2.weight"]


SPOILT = {
    spoil_nan: ("NaN", "features.0.weight", 2, "[0, 0, 0, 3]"),
    spoil_inf: ("Inf", "main_modules.1.0.weight", 1, "[127, 511]"),
    spoil_variance: ("negative variance", "features.1.running_var", 3, "-0.5"),
    spoil_zero: ("all zero", "features.4.0.conv1.weight", 36864, "36864"),
    spoil_constant: ("constant", "auxiliary_module.1.weight", 21 * 512, "0.25"),
    spoil_gate: ("all zero", "features.5.0.bn1.weight", 128, "128"),
    spoil_duplicate: ("duplicate", "features.4.1.conv2.weight", 36864, "features.4.1.conv1"),
    spoil_shared: ("shared storage", "main_modules.1.0.weight", 1, "main_modules.0.0.weight"),
    spoil_unknown: ("unknown entry", "features.9.weight", 1, "rule"),
    spoil_missing: ("missing entry", "backbone.layer4.1.conv2.weight", 1, "512"),
}


@pytest.mark.parametrize("spoil", SPOILT, ids=lambda f: f.__name__)
def test_one_fault_is_one_finding(spoil, clean, tmp_path):
    kind, entry, count, word = SPOILT[spoil]
    spoil(clean)
    (anomaly,) = found(tmp_path, clean).anomalies
    assert (anomaly.kind, anomaly.entry, anomaly.count) == (kind, entry, count)
    assert word in anomaly.detail


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_said_of_every_entry(clean, tmp_path, dtype):
    halved = {n: v.to(dtype) if v.is_floating_point() else v for n, v in clean.items()}
    report = found(tmp_path, halved)
    floats = {name for name, value in clean.items() if value.is_floating_point()}
    assert set(kinds(report)) == {("half precision", name) for name in floats}


def test_equal_tensors_that_differ_in_one_bit_are_no_duplicates(clean, tmp_path):
    spoil_duplicate(clean)
    whole = clean["features.4.1.conv2.weight"]
    whole.view(-1)[20_000] = torch.nextafter(whole.view(-1)[20_000], torch.tensor(2.0))
    assert found(tmp_path, clean).anomalies == ()


# ---- rows


def unit(count, dim=12, dtype=np.float32):
    rows = np.random.default_rng(3).normal(size=(count, dim))
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(dtype)


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
def test_unit_rows_are_sound(dtype):
    rows = unit(500, dtype=dtype)
    assert row_anomalies(scan_rows(rows, [("S", 0, 6), ("G", 6, 12)]), rows.dtype.name) == ()


def test_each_kind_of_row_is_counted_and_the_first_ones_named():
    rows = unit(300)
    rows[[4, 9], 3] = np.nan
    rows[11, 0] = np.inf
    rows[20] = 0
    rows[30:37] *= np.float32(1.001)
    rows[50, :6] = 0
    rows[50] /= np.linalg.norm(rows[50])
    rows[60], rows[299] = rows[2], rows[2]
    seen = {
        a.kind: a for a in row_anomalies(scan_rows(rows, [("S", 0, 6), ("G", 6, 12)]), "float32")
    }
    assert {kind: anomaly.count for kind, anomaly in seen.items()} == {
        "NaN or Inf": 3,
        "all zero": 1,
        "not unit": 7,
        "zero branch": 1,
        "duplicate rows": 2,
    }
    assert seen["NaN or Inf"].entry == "row 4" and "4, 9, 11" in seen["NaN or Inf"].detail
    assert seen["not unit"].entry == "row 30" and "and 2 more" in seen["not unit"].detail
    assert "1.001" in seen["not unit"].detail
    assert "row 60 = 2, row 299 = 2" in seen["duplicate rows"].detail


def test_duplicate_rows_are_those_that_a_naive_search_finds():
    rng = np.random.default_rng(7)
    rows = unit(40, 3)[rng.integers(0, 40, 3000)]
    first: dict[bytes, int] = {}
    naive = []
    for number, row in enumerate(rows):
        earlier = first.setdefault(row.tobytes(), number)
        if earlier != number:
            naive.append((number, earlier))
    assert sorted(scan_rows(rows).copies) == naive


def test_duplicate_rows_say_how_many_are_one_picture():
    rows = unit(5)
    rows[3] = rows[4] = rows[0]
    (anomaly,) = row_anomalies(scan_rows(rows), "float32", ["a", "b", "c", "a", "d"])
    assert anomaly.count == 2 and "1 of the same picture" in anomaly.detail


def test_no_rows_are_no_anomaly():
    assert row_anomalies(scan_rows(np.empty((0, 8), np.float32)), "float32") == ()
