"""The 19 configurations of the reference, through our decode, transform, naming and conversion."""

import numpy as np
import pytest
import torch
from reference import PICTURES, config_state_dict, noise, outputs

from cgdcli.conversion import convert_weights
from cgdcli.images.decoding import read_image
from cgdcli.images.transforms import eval_pixels
from cgdcli.model.cgd import normalize_pixels
from cgdcli.weights.loading import load_model

CONFIGS = outputs()["configs"]


def named(config: dict) -> str:
    return f"{config['backbone']}_{config['gd_config']}_{config['feature_dim']}"


def asked_for(config: dict) -> bool:
    """Two letters and all three of each backbone are tested always, their other order of the
    smallest: 5 s each."""
    always = ("SG", "SMG", "GS") if config["backbone"] == "resnet18" else ("SG", "SMG")
    return config["gd_config"] not in always


EVERY = [
    pytest.param(c, marks=pytest.mark.slow if asked_for(c) else (), id=named(c)) for c in CONFIGS
]


def pixels(size: int = 224) -> torch.Tensor:
    return torch.from_numpy(np.stack([eval_pixels(read_image(p)[0], size) for p in PICTURES]))


def converted(config: dict, folder) -> torch.nn.Module:
    name = (
        f"car_uncropped_{config['reference_file_name_backbone']}_{config['gd_config']}"
        f"_{config['feature_dim']}_0.1_0.5_0.1_128_model.pth"
    )
    torch.save(config_state_dict(config), folder / name)
    report = convert_weights(folder / name)
    return load_model(report.target)


def test_pictures_decode_and_resize_as_the_reference_did():
    import hashlib

    for path, array in zip(PICTURES, pixels().numpy(), strict=True):
        facts = outputs()["pictures"][path.name]
        image, file_hash = read_image(path)
        assert file_hash == facts["file_sha256"]
        assert hashlib.sha256(np.array(image).tobytes()).hexdigest() == facts["decoded_rgb_sha256"]
        assert (
            hashlib.sha256(array.tobytes()).hexdigest() == facts["resized_224x224x3_uint8_sha256"]
        )


@pytest.mark.parametrize("config", EVERY)
def test_configuration(config, tmp_path):
    model = converted(config, tmp_path)
    assert sum(p.numel() for p in model.parameters()) == config["params"]
    assert sum(p.numel() for p in model.backbone.parameters()) == config["params_backbone"]
    assert sum(p.numel() for p in model.branches.parameters()) == config["params_main"]
    assert sum(p.numel() for p in model.classifier.parameters()) == config["params_auxiliary"]
    with torch.inference_mode():
        embedding, logits = model(normalize_pixels(pixels(), model.config))
    known = np.array(config.get("embedding", config.get("embedding_first32")))
    assert np.abs(embedding[:, : known.shape[1]].numpy() - known).max() < 1e-5
    weights = noise("checksum", embedding.shape[1])
    checksum = embedding.double().numpy() @ weights
    # Each element may be 1e-5 off; |weights| is at most sqrt(3), so their sum stays far below this.
    assert np.abs(checksum - config["embedding_checksum"]).max() < 1e-4
    assert np.abs((embedding @ embedding.T).numpy() - config["cosine"]).max() < 1e-5
    expected = np.array(config["logits"])
    assert np.abs(logits.numpy() - expected).max() < 1e-3 * np.abs(expected).max()
    assert logits.argmax(1).tolist() == config["argmax_class"]
    assert torch.allclose(model.embed(pixels()), embedding, atol=1e-6)


def test_one_picture_alone_is_the_same_as_in_a_batch_of_32(tmp_path):
    model = converted(CONFIGS[15], tmp_path)
    batch = torch.cat([pixels()] * 8)
    together = model.embed(batch)
    for row in (0, 1, 2, 3, 31):
        alone = model.embed(batch[row : row + 1])
        assert (alone - together[row]).abs().max() < 1e-5
