"""A plan: every entry once, nothing written; what is incomplete, and how strict one may be."""

import shutil
from collections import OrderedDict

import pytest
import torch
from reference import checkpoints, polluted, state_dict

from cgdcli.config import ConvertConfig, Strict
from cgdcli.conversion import convert_weights, plan_conversion
from cgdcli.errors import CheckpointError
from cgdcli.views.conversion import count_lines, entry_lines
from cgdcli.weights.header import read_header
from cgdcli.weights.loading import load_model

SG = "resnet18_SG_256_21"
OLD, NEWEST = "0.0.31.post2005241907", "0.1.1.post2209072238"
INFERENCE = ConvertConfig(strict=Strict.inference)


@pytest.fixture
def folder(tmp_path):
    yield tmp_path
    shutil.rmtree(tmp_path)


def save(folder, content, name="old.pth"):
    torch.save(content, folder / name)
    return folder / name


def accounted(plan, content):
    """Every entry of the file stands in the plan once, in the file's order."""
    assert [entry.source for entry in plan.entries] == list(content)
    assert sum(plan.counts[s] for s in ("kept", "renamed", "dropped", "unknown", "clash")) == len(
        content
    )


@pytest.mark.parametrize("version", [OLD, NEWEST])
@pytest.mark.parametrize("model", [m for m in checkpoints()["models"] if "_S_" not in m])
def test_plan_of_a_polluted_file_writes_nothing_and_accounts_for_all(model, version, folder):
    content = polluted(model, version)
    plan = plan_conversion(save(folder, content))
    accounted(plan, content)
    clean = state_dict(model)
    assert {e.source for e in plan.entries if e.status == "renamed"} == set(clean)
    assert {e.source for e in plan.entries if e.status == "dropped"} == set(content) - set(clean)
    assert all(e.rule for e in plan.entries)
    assert not plan.missing and not plan.problems
    assert [file.name for file in folder.iterdir()] == ["old.pth"]


def test_plan_says_what_conversion_does(folder):
    source = save(folder, polluted(SG, OLD))
    plan, report = plan_conversion(source), convert_weights(source)
    assert plan.entries == report.entries and plan.assumed == report.assumed
    assert plan.written_entries == report.written_entries == len(read_header(report.target).tensors)


def test_why_181_is_said_in_words(folder):
    (words, others) = count_lines(plan_conversion(save(folder, polluted(SG, OLD))))
    for part in ("why 181", "129 are the network's", "120 of the backbone", "2 of the branches SG"):
        assert part in words
    for part in ("7 of the classifier", "52 are counters", "thop", "26 modules", "no weights"):
        assert part in words
    # The other half of the question: which model has 128?
    assert "128 with 1 descriptor" in others and "129 with 2" in others


def test_why_128_is_said_in_words(folder):
    (words, others) = count_lines(plan_conversion(save(folder, state_dict("resnet18_S_256_21"))))
    assert "why 128: 128 are the network's" in words and "1 of the branches S" in words
    assert "129 with 2" in others


def test_lines_for_pipes_are_one_an_entry(folder):
    content = polluted(SG, OLD)
    lines = [line.split("\t") for line in entry_lines(plan_conversion(save(folder, content)))]
    assert [line[1] for line in lines] == list(content)
    assert {len(line) for line in lines} == {4}


def test_everything_wrong_is_listed_at_once(folder):
    content = state_dict(SG)
    del content["features.7.1.bn2.weight"]
    content |= {"features.1.bias": torch.zeros(65), "extra": torch.zeros(1), "note": "text"}
    content["auxiliary_module.1.bias"] = torch.zeros(21, dtype=torch.int64)
    plan = plan_conversion(save(folder, content))
    accounted(plan, content)
    status = {entry.source: entry.status for entry in plan.entries}
    assert status["features.1.bias"] == status["auxiliary_module.1.bias"] == "clash"
    assert (status["extra"], status["note"]) == ("unknown", "dropped")
    assert plan.missing == {"backbone.layer4.1.bn2.weight": "(512,)"}
    assert len(plan.problems) == 4
    with pytest.raises(CheckpointError) as caught:
        convert_weights(folder / "old.pth")
    for problem in plan.problems:
        assert problem in caught.value.what
    assert "--plan" in caught.value.hint
    assert [file.name for file in folder.iterdir()] == ["old.pth"]


def without(*prefixes):
    return OrderedDict((n, t) for n, t in state_dict(SG).items() if not n.startswith(prefixes))


@pytest.mark.parametrize("gone", ["auxiliary_module.", "auxiliary_module.1.", "auxiliary_module.0"])
def test_classifier_may_be_missing_for_inference_alone(folder, gone):
    content = without(gone)
    source = save(folder, content)
    plan = plan_conversion(source)
    assert plan.missing and all(name.startswith("classifier.") for name in plan.missing)
    with pytest.raises(CheckpointError, match="classifier") as caught:
        convert_weights(source)
    assert "--strict inference" in caught.value.hint
    report = convert_weights(source, config=INFERENCE)
    accounted(report, content)
    assert report.config["classes"] == 0 and report.written_entries == 122
    whole = convert_weights(save(folder, state_dict(SG), "whole.pth"))
    assert load_model(report.target).info.fingerprint == whole.fingerprint


@pytest.mark.parametrize("gone", ["main_modules.1.", "features.5.0.conv1."])
def test_nothing_else_may_be_missing_for_inference(folder, gone):
    source = save(folder, without(gone))
    config = ConvertConfig("SG", strict=Strict.inference)
    with pytest.raises(Exception, match=r"missing|branch"):
        convert_weights(source, config=config)
    assert [file.name for file in folder.iterdir()] == ["old.pth"]


def test_a_whole_classifier_stays_for_inference(folder):
    report = convert_weights(save(folder, state_dict(SG)), config=INFERENCE)
    assert report.config["classes"] == 21 and report.written_entries == 129


def test_unreadable_letters_still_give_a_plan(folder):
    content = state_dict(SG)
    for i in (2, 3):
        content[f"main_modules.{i}.0.weight"] = content["main_modules.0.0.weight"]
    plan = plan_conversion(save(folder, content))
    accounted(plan, content)
    assert plan.config is None and "--descriptors" not in plan.problems[-1]
    assert "4 branches" in plan.problems[-1]


def test_shared_tensors_are_named_and_written_whole(folder):
    content = state_dict(SG)
    content["main_modules.1.0.weight"] = content["main_modules.0.0.weight"]
    report = convert_weights(save(folder, content))
    assert report.shared == (("main_modules.0.0.weight", "main_modules.1.0.weight"),)
    branches = load_model(report.target).branches
    assert torch.equal(branches[0].weight, branches[1].weight)


def test_heads_and_transform_options_are_in_the_file(folder):
    said = ConvertConfig("SG", gem_p=2.5, mean=(0.5, 0.4, 0.3), std=(0.2, 0.2, 0.1))
    report = convert_weights(save(folder, state_dict(SG)), config=said)
    config = read_header(report.target).config()
    assert config.gem_p == 2.5 and config.transform.mean == (0.5, 0.4, 0.3)
    assert config.transform.std == (0.2, 0.2, 0.1)


# Which weights, where a file holds several


@pytest.mark.parametrize("key", ["state_dict_ema", "model_ema", "ema"])
def test_averaged_weights_are_preferred_and_that_is_said(folder, key):
    plain = state_dict(SG)
    averaged = {n: t + 1 if n == "main_modules.0.0.weight" else t for n, t in plain.items()}
    source = save(folder, {"state_dict": plain, key: averaged, "epoch": 3})
    report = convert_weights(source, folder / "a.safetensors")
    assert any(key in words and "--take state_dict" in words for words in report.assumed)
    other = convert_weights(source, folder / "b.safetensors", ConvertConfig(take="state_dict"))
    assert not any("averaged" in words for words in other.assumed)
    for made, tensors in ((report, averaged), (other, plain)):
        weight = load_model(made.target).branches[0].weight
        assert torch.equal(weight, tensors["main_modules.0.0.weight"])


def test_taking_what_is_not_there_is_refused(folder):
    with pytest.raises(CheckpointError, match="called `ema`"):
        plan_conversion(save(folder, {"state_dict": state_dict(SG)}), ConvertConfig(take="ema"))


def test_a_file_that_contains_itself_is_refused(folder):
    content = {"state_dict": {}}
    content["state_dict"]["state_dict"] = content
    with pytest.raises(CheckpointError, match="contains itself"):
        plan_conversion(save(folder, content))


@pytest.mark.parametrize(
    "prefix", ["module._orig_mod.", "ema_model.module.", "_orig_mod.model.net.", "extractor.model."]
)
def test_prefixes_nest_in_any_order(folder, prefix):
    content = {prefix + name: tensor for name, tensor in polluted(SG, OLD).items()}
    content |= {"n_averaged": torch.tensor(7), "criterion.weight": torch.zeros(3)}
    plan = plan_conversion(save(folder, content))
    accounted(plan, content)
    assert len(plan.renamed) == 129 and not plan.problems
    assert "AveragedModel" in plan.dropped["n_averaged"]
    assert "loss" in plan.dropped["criterion.weight"]


def test_optimizer_beside_is_said(folder):
    optimizer = {"state": {0: {"exp_avg": torch.zeros(4)}}, "param_groups": []}
    plan = plan_conversion(save(folder, {"model": state_dict(SG), "optimizer": optimizer}))
    assert "optimizer" in plan.wrapper and not plan.problems


# What is said in plain words is true

CLASSIFIER = [n for n in state_dict(SG) if n.startswith("auxiliary_module.")]


def bare(names=CLASSIFIER):
    return {n: t for n, t in state_dict(SG).items() if n not in names}


def words(plan):
    return " ".join(count_lines(plan))


def test_a_missing_classifier_is_missing_whole(folder):
    plan = plan_conversion(save(folder, bare()))
    assert len(plan.missing) == 7 and len(plan.problems) == 7  # 122 + 7 are 129


def test_what_inference_does_without_is_still_said(folder):
    plan = plan_conversion(save(folder, bare()), INFERENCE)
    assert len(plan.missing) == 7 and not plan.problems and plan.counts["missing"] == 7
    assert all("training" in why for why in plan.missing.values())
    assert "122 are the network's" in words(plan)
    assert "128 with 1 descriptor, 129 with 2" in words(plan)  # as code that builds it counts


def test_old_files_without_counters_are_compared_as_current_code_counts(folder):
    content = {n: t for n, t in state_dict(SG).items() if "num_batches" not in n}
    plan = plan_conversion(save(folder, content))
    assert "129 with 2" in words(plan) and "no num_batches_tracked" in words(plan)


def test_unknown_entries_are_not_counted_as_the_networks(folder):
    plan = plan_conversion(save(folder, state_dict(SG) | {"extra.weight": torch.zeros(1)}))
    assert "why 130: 129 are the network's" in words(plan) and "1 cannot be placed" in words(plan)


@pytest.mark.parametrize("rows", [1000, 24])
def test_fc_is_called_what_is_known_of_it(folder, rows):
    from torchvision.models import resnet18

    plan = plan_conversion(save(folder, resnet18(weights=None, num_classes=rows).state_dict()))
    assert "ImageNet" not in " ".join(e.rule for e in plan.entries)
    said = [note for note in plan.assumed if note.startswith("fc (24 x 512)")]
    assert len(said) == (rows == 24)


# File names of the reference's first days

CAR = ((0.4853, 0.4965, 0.4295), (0.2237, 0.2193, 0.2568))


@pytest.mark.parametrize(
    ("name", "mean", "size"),
    [
        ("car_uncropped_resnet18_SG_256_0.5_0.1_model.pth", CAR[0], 224),
        ("car_cropped_resnet18_SG_256_0.5_0.1_128_model.pth", CAR[0], 224),
        ("car_uncropped_resnet18_SG_256_0.1_0.5_0.1_128_model.pth", (0.485, 0.456, 0.406), 224),
        ("car_uncropped_256_model.pth", CAR[0], 256),
        ("mine_resnet18_SG_256_model.pth", (0.485, 0.456, 0.406), 224),
    ],
)
def test_a_file_name_says_mean_and_std(folder, name, mean, size):
    plan = plan_conversion(save(folder, state_dict(SG), name))
    assert plan.config["transform"]["mean"] == mean
    assert plan.config["transform"]["image_size"] == size
    assert any("mean and std" in words for words in plan.assumed)


def test_a_first_file_name_of_another_dimension_is_refused(folder):
    plan = plan_conversion(save(folder, state_dict(SG), "car_uncropped_1536_model.pth"))
    assert "1536" in plan.problems[0] and "256" in plan.problems[0]


# Several sets of weights in one file


def test_the_other_of_two_plain_sets_is_named(folder):
    one, two = state_dict(SG), {n: t + 1 for n, t in state_dict(SG).items()}
    source = save(folder, {"model": one, "network": two})
    assert "--take network" in " ".join(plan_conversion(source).assumed)
    report = convert_weights(source, config=ConvertConfig(take="network"))
    first = load_model(report.target).backbone.conv1.weight
    assert torch.equal(first, two["features.0.weight"])


@pytest.mark.parametrize("ema", [{}, {"decay": 0.999}, {"updates": {"n": 3}}], ids=str)
def test_an_average_without_weights_is_passed_over(folder, ema):
    plan = plan_conversion(save(folder, {"ema": ema, "model": state_dict(SG), "epoch": 3}))
    assert not plan.problems and "inside `model`" in plan.wrapper and "ema" in plan.wrapper


def test_what_stands_beside_a_pair_is_said(folder):
    from torchvision.models import resnet18

    trunk = {n: t for n, t in resnet18(weights=None).state_dict().items() if n[:3] != "fc."}
    content = {"trunk": trunk, "embedder": {"net.0.weight": torch.zeros(8, 512)}, "epoch": 9}
    source = save(folder, content)
    pair, alone = plan_conversion(source), plan_conversion(source, ConvertConfig(take="trunk"))
    assert "beside it epoch" in pair.wrapper and pair.config["embedding_dim"] == 8
    assert "inside `trunk`" in alone.wrapper and alone.config["embedding_dim"] is None


def test_a_compiled_part_of_the_network_is_unwrapped(folder):
    content = {n.replace("features.", "features._orig_mod."): t for n, t in state_dict(SG).items()}
    plan = plan_conversion(save(folder, content))
    accounted(plan, content)
    assert not plan.problems and len(plan.renamed) == 129


def test_nan_in_the_file_is_said(folder):
    content = state_dict(SG)
    content["features.0.weight"] = content["features.0.weight"] * float("nan")
    report = convert_weights(save(folder, content))
    assert report.not_finite == ("backbone.conv1.weight",)


def test_counters_that_share_memory_are_no_finding(folder):
    counter = torch.zeros(1)
    content = {n: counter if "total_" in n else t for n, t in polluted(SG, OLD).items()}
    assert plan_conversion(save(folder, content)).shared == ()
