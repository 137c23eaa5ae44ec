"""Losses against the reference's figures, on small inputs and through real training steps."""

import math

import pytest
import torch
from reference import PICTURES, config_state_dict, noise, outputs

from cgdcli.config import ConvertConfig, Precision, TrainConfig
from cgdcli.conversion import convert_weights
from cgdcli.model.cgd import normalize_pixels
from cgdcli.training.learner import Learner
from cgdcli.training.losses import batch_hard_triplet, smoothed_cross_entropy
from cgdcli.weights.loading import load_model

SMALL = outputs()["small"]
STEPS = outputs()["train"]["train_steps"]


def close(value, expected, rel=1e-5, abs_=1e-6):
    return torch.allclose(value, torch.tensor(expected, dtype=value.dtype), rtol=rel, atol=abs_)


@pytest.mark.parametrize("case", SMALL["label_smoothing_cross_entropy"], ids=lambda c: c["case"])
def test_smoothed_cross_entropy(case):
    for result in case["results"]:
        for dtype, key in ((torch.float32, "loss"), (torch.float64, "loss_float64")):
            logits = torch.tensor(case["logits"], dtype=dtype, requires_grad=True)
            loss = smoothed_cross_entropy(
                logits,
                torch.tensor(case["target"]),
                smoothing=result["smoothing"],
                temperature=result["temperature"],
            )
            assert loss.item() == pytest.approx(result[key], rel=1e-6, abs=1e-7)
        if "grad" in result:
            logits = torch.tensor(case["logits"], requires_grad=True)
            smoothed_cross_entropy(
                logits,
                torch.tensor(case["target"]),
                smoothing=result["smoothing"],
                temperature=result["temperature"],
            ).backward()
            assert close(logits.grad, result["grad"])


@pytest.mark.parametrize("case", SMALL["batch_hard_triplet"], ids=lambda c: c["case"])
def test_batch_hard_triplet(case):
    for result in case["results"]:
        features = torch.tensor(case["features"], requires_grad=True)
        loss = batch_hard_triplet(features, torch.tensor(case["target"]), margin=result["margin"])
        # Identical points: the reference's matrix-product distances are up to 4.9e-4 off zero.
        slack = 5e-4 if "duplicates" in case["case"] and len(features) > 25 else 1e-6
        assert loss.loss.item() == pytest.approx(result["loss_float64"], rel=1e-5, abs=slack)
        if "grad" in result and slack < 1e-4:
            loss.loss.backward()
            assert close(features.grad, result["grad"], rel=1e-4, abs_=1e-5)


def naive_triplet(features, labels, margin):
    total = 0.0
    for i, anchor in enumerate(features):
        distances = [math.dist(anchor, other) for other in features]
        positive = max([d for d, y in zip(distances, labels, strict=True) if y == labels[i]])
        negatives = [d for d, y in zip(distances, labels, strict=True) if y != labels[i]]
        total += max(0.0, positive - min(negatives, default=max(distances)) + margin)
    return total / len(features)


def test_batch_hard_triplet_against_a_naive_loop():
    generator = torch.Generator().manual_seed(3)
    for size in (2, 7, 40):
        features = torch.randn(size, 5, generator=generator, dtype=torch.float64)
        labels = torch.randint(0, 4, (size,), generator=generator)
        found = batch_hard_triplet(features, labels, margin=0.3)
        assert found.loss.item() == pytest.approx(
            naive_triplet(features.tolist(), labels.tolist(), 0.3), rel=1e-12
        )


@pytest.mark.parametrize(
    "case",
    [pytest.param(c, marks=pytest.mark.slow if "50" in c["backbone"] else ()) for c in STEPS],
    ids=lambda c: f"{c['backbone']}_{c['gd_config']}",
)
def test_training_steps(case, tmp_path):
    import numpy as np

    from cgdcli.images.decoding import read_image
    from cgdcli.images.transforms import eval_pixels

    torch.save(config_state_dict(case), tmp_path / "old.pth")
    convert_weights(tmp_path / "old.pth", config=ConvertConfig(case["gd_config"]))
    model = load_model(tmp_path / "old.safetensors")
    learner = Learner(
        model, TrainConfig.resolved({"recipe": "reference"}), steps=100, precision=Precision.fp32
    )
    learner.to_training()
    optimizer = learner.optimizer
    pixels = np.stack([eval_pixels(read_image(path)[0], 224) for path in PICTURES])
    images = normalize_pixels(torch.from_numpy(pixels), model.config)
    labels = torch.tensor(case["labels"])
    for number, step in enumerate(case["steps"]):
        losses = learner.losses(torch.from_numpy(pixels), labels)
        # Adam's first step moves a weight by the whole rate even where its gradient is rounding
        # alone: from then on processors differ, by 6e-4 of a class loss and 1.1e-5 of a ranking
        # loss on an EPYC without AVX-512, against what was recorded.
        within, apart = (1e-4, 0.0) if number == 0 else (1e-3, 1e-4)
        ranking = pytest.approx(step["triplet_loss"], rel=1e-4, abs=apart)
        assert losses.class_loss.item() == pytest.approx(step["class_loss"], rel=within)
        assert losses.ranking_loss.item() == ranking
        assert losses.total.item() == pytest.approx(step["loss"], rel=within)
        optimizer.zero_grad()
        losses.total.backward()
        if number == 0:
            norms = [p.grad.norm() for p in model.parameters()]
            assert torch.stack(norms).norm().item() == pytest.approx(
                step["grad_total_norm"], rel=1e-3
            )
            embedding = model(images).embedding.detach().double().numpy()
            checksum = embedding @ noise("checksum", embedding.shape[1])
            assert np.abs(checksum - step["embedding_checksum"]).max() < 1e-3
        optimizer.step()
