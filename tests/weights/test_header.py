"""The header of a safetensors file, read without torch; damage is named."""

import json
import struct
from dataclasses import replace

import pytest
import torch
from safetensors.torch import save_file

from cgdcli.config import CGDConfig, StrideMode, Transform, pooled_config
from cgdcli.errors import CheckpointError
from cgdcli.weights.header import fingerprint, read_header

TENSORS = {"a": torch.arange(6.0).reshape(2, 3), "b": torch.tensor(7)}


def raw(path, header, data=b""):
    """A file with that header, `bytes` or JSON, and `data` behind it."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + data)
    return path


def ours(path, **metadata):
    values = {"format": 1, "config": CGDConfig().to_dict()} | metadata
    save_file(TENSORS, path, metadata={"cgd": json.dumps(values)})
    return path


def refused(path, *words):
    with pytest.raises(CheckpointError) as caught:
        read_header(path)
    for word in (path.name, *words):
        assert str(word) in caught.value.what
    assert caught.value.hint
    return caught.value


@pytest.fixture
def file(tmp_path):
    return tmp_path / "x.safetensors"


def test_tensors_and_metadata_are_as_they_were_saved(file):
    header = read_header(ours(file))
    assert header.config() == CGDConfig()
    data = file.read_bytes()[header.data_start :]
    for name, tensor in TENSORS.items():
        entry = header.tensors[name]
        assert entry.shape == tuple(tensor.shape)
        assert data[entry.start : entry.stop] == tensor.numpy().tobytes()
    assert (header.tensors["a"].dtype, header.tensors["b"].dtype) == ("F32", "I64")


def test_foreign_file_has_no_metadata_and_says_how_to_convert(file):
    save_file(TENSORS, file, metadata={"format": "pt"})
    header = read_header(file)
    assert header.metadata is None
    with pytest.raises(CheckpointError, match="no cgd configuration") as caught:
        header.config()
    assert "convert-weights" in caught.value.hint


def test_file_without_a_metadata_entry_is_foreign(file):
    save_file(TENSORS, file)
    assert read_header(file).metadata is None


def test_any_cut_is_noticed(file):
    whole = ours(file).read_bytes()
    for length in [*range(0, 20), *range(20, len(whole), 37), len(whole) - 1]:
        file.write_bytes(whole[:length])
        refused(file, "not a whole safetensors file")


def test_bytes_behind_the_end_are_noticed(file):
    file.write_bytes(ours(file).read_bytes() + b"\0")
    refused(file, "announced")


@pytest.mark.parametrize("magic", [b"\x93NUMPY\x01\x00v\x00", b"PK\x03\x04" * 10, b"hello world"])
def test_other_kinds_of_file_are_refused(file, magic):
    file.write_bytes(magic + b" " * 200)
    refused(file, "not a whole safetensors file")


@pytest.mark.parametrize("length", [0, 1, 1 << 40, (1 << 64) - 1])
def test_absurd_header_length_is_refused_unread(file, length):
    file.write_bytes(struct.pack("<Q", length) + b"{}")
    refused(file, length)


@pytest.mark.parametrize(
    "header",
    [
        b"not json",
        b"\xff\xfe\x00\x01",
        b"[1, 2]",
        b"null",
        b'"text"',
        b"[" * 100_000,
        {"a": 1},
        {"a": {"dtype": "F32", "shape": [1]}},
        {"a": {"dtype": "F32", "shape": ["x"], "data_offsets": [0, 0]}},
        {"a": {"dtype": "F32", "shape": [0], "data_offsets": [0]}},
        {"a": {"dtype": "F32", "shape": [0], "data_offsets": [0, 0, 0]}},
        {"__metadata__": {"cgd": "not json"}},
        {"__metadata__": {"cgd": "[]"}},
        {"__metadata__": {"cgd": 5}},
    ],
    ids=lambda header: str(header)[:40],
)
def test_header_that_is_not_the_json_it_should_be_is_refused(file, header):
    refused(raw(file, header))


def test_missing_file_and_folder_are_refused(tmp_path):
    refused(tmp_path / "gone.safetensors", "cannot read")
    refused(tmp_path, "cannot read")


@pytest.mark.parametrize("version", [0, 2, "1", None])
def test_another_format_is_refused_by_its_number(file, version):
    with pytest.raises(CheckpointError) as caught:
        read_header(ours(file, format=version)).config()
    assert repr(version) in caught.value.what


@pytest.mark.parametrize("config", [{}, {"backbone": "resnet18"}, None, [], 5])
def test_config_that_cannot_be_read_is_refused(file, config):
    with pytest.raises(CheckpointError, match="configuration"):
        read_header(ours(file, config=config)).config()


@pytest.mark.parametrize("value", ["512", 5.5, [512]])
def test_config_with_a_value_of_another_type_is_refused(file, value):
    config = CGDConfig().to_dict() | {"embedding_dim": value}
    with pytest.raises(CheckpointError, match="configuration"):
        read_header(ours(file, config=config)).config()


def entry(name, data, dtype="F32", shape=(1,)):
    return name, dtype, shape, memoryview(data)


def test_fingerprint_does_not_depend_on_order():
    entries = [entry("b", b"1"), entry("a", b"2"), entry("c", b"3")]
    assert fingerprint(CGDConfig(), entries) == fingerprint(CGDConfig(), entries[::-1])


def test_fingerprint_notices_name_dtype_shape_and_bytes():
    known = {fingerprint(CGDConfig(), [entry("a", b"1234")])}
    for other in (
        entry("b", b"1234"),
        entry("a", b"1235"),
        entry("a", b"1234", "I32"),
        entry("a", b"1234", shape=(1, 1)),
    ):
        known.add(fingerprint(CGDConfig(), [other]))
    assert len(known) == 5


@pytest.mark.parametrize(
    ("config", "wanted"),
    [
        (CGDConfig(), "e9be40262166841aa2150f4617d7eb573be74bd0d0be654c5864b61205cc6e62"),
        (
            pooled_config("resnet50"),
            "fcf612ad3380c5b5c9fed112fb67791912661aa189d5cda68220acc0199ccac4",
        ),
        (
            CGDConfig(
                "wide_resnet50_2",
                StrideMode.layer4,
                "MW",
                64,
                7,
                2.5,
                Transform(112, (0.1, 0.2, 0.3), (1.0, 2.0, 3.0)),
            ),
            "9526a85bd1d25ef1f323e94e343f5f760d641226131f2e3783da5300e1071d8e",
        ),
        (
            CGDConfig(heads=("affine", "whitening")),
            "a5218713e8e03020e48c4081c1e26291fe7c3e4476133b50f0d63e674dc4452f",
        ),
    ],
    ids=["CGD", "pooled", "other", "heads"],
)
def test_fingerprints_are_those_of_the_first_version(config, wanted):
    """Indexes record them: an entry added to the config must not change those of files that do
    not have it."""
    entries = [
        (name, kind, tuple(TENSORS[name].shape), memoryview(TENSORS[name].numpy()).cast("B"))
        for name, kind in (("a", "F32"), ("b", "I64"))
    ]
    assert fingerprint(config, entries) == wanted
    assert fingerprint(CGDConfig.from_dict(config.to_dict()), entries) == wanted
    assert fingerprint(replace(config, learned_p=True), entries) != wanted
