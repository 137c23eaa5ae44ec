"""The rule itself reproduces its own test values."""

import hashlib
import json

import pytest
from reference import GOLDEN, noise, rule_tensor

VALUES = json.loads((GOLDEN / "weights_rule.json").read_text())["test_values"]


@pytest.mark.parametrize("entry", [e for e in VALUES if "(" not in e])
def test_rule_values(entry):
    name, _, shape = entry.partition(" ")
    tensor = rule_tensor(name, tuple(int(n) for n in shape.split("x")) if shape else ())
    found = hashlib.sha256(tensor.numpy().tobytes()).hexdigest()
    assert found == VALUES[entry]["sha256_little_endian"]


def test_noise_values():
    assert noise("checksum", 4) == pytest.approx(VALUES['noise("checksum", 4)'], rel=1e-12)
