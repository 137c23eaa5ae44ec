"""Files that are no weights file, each broken in one way, and a word that its error must say.

Every builder writes one file from nothing; `marker` is a path that code in the file would create.
"""

import io
import json
import os
import pickle
import pickletools
import struct
import tarfile
import types
import warnings
import zipfile
from argparse import Namespace
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save
from torch import nn

Builder = Callable[[Path, Path], object]


@dataclass(frozen=True)
class Broken:
    """One malformed file.

    Attributes:
        suffix: of its name.
        build: writes it; the second argument is what code in it would create.
        word: in the error's words.
        inspectable: it is whole, only no network's; `inspect` says what it is instead of failing.
    """

    name: str
    suffix: str
    build: Builder
    word: str
    inspectable: bool = False


class Runs:
    """Unpickled, it creates a file."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> Any:
        return os.system, (f"touch '{self.marker}'",)


def small_state() -> dict[str, torch.Tensor]:
    torch.manual_seed(0)
    return {
        "features.0.weight": torch.randn(64, 3, 7, 7),
        "features.1.weight": torch.randn(64),
        "global_descriptors.0.1.weight": torch.randn(8, 64),
    }


def zip_bytes(content: Any = None, **options: Any) -> bytes:
    stream = io.BytesIO()
    torch.save(small_state() if content is None else content, stream, **options)
    return stream.getvalue()


def legacy_bytes(content: Any = None) -> bytes:
    return zip_bytes(content, _use_new_zipfile_serialization=False)


def tensors_bytes() -> bytes:
    return save(small_state())


def written(make: Callable[[], bytes]) -> Builder:
    return lambda path, _: path.write_bytes(make())


def saved(content: Callable[[Path], Any], *, zipped: bool = True) -> Builder:
    def build(path: Path, marker: Path) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            torch.save(content(marker), path, _use_new_zipfile_serialization=zipped)

    return build


def cut(make: Callable[[], bytes], share: float) -> Builder:
    def shorter() -> bytes:
        data = make()
        return data[: int(len(data) * share)]

    return written(shorter)


def flipped(make: Callable[[], bytes], where: Callable[[bytes], int], bits: int = 0xFF) -> Builder:
    def changed() -> bytes:
        data = bytearray(make())
        data[where(bytes(data))] ^= bits
        return bytes(data)

    return written(changed)


def zip_entries(data: bytes) -> dict[str, bytes]:
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        return {entry.filename: archive.read(entry) for entry in archive.infolist()}


def zipped(
    change: Callable[[dict[str, bytes]], dict[str, bytes]], compression: int = zipfile.ZIP_STORED
) -> Builder:
    """A zip of torch.save packed anew, with other entries."""

    def build(path: Path, _: Path) -> None:
        entries = change(zip_entries(zip_bytes()))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # two entries of one name are meant
            with zipfile.ZipFile(path, "w", compression) as archive:
                for name, data in entries.items():
                    archive.writestr(name.removesuffix("#"), data)

    return build


def replaced(end: str, data: bytes) -> Callable[[dict[str, bytes]], dict[str, bytes]]:
    return lambda entries: {n: data if n.endswith(end) else d for n, d in entries.items()}


def without(end: str) -> Callable[[dict[str, bytes]], dict[str, bytes]]:
    return lambda entries: {n: d for n, d in entries.items() if not n.endswith(end)}


def zeros_bomb(path: Path, _: Path) -> None:
    """50 kB that unfold to 50 MB of zeros, as a tensor's bytes."""
    entries = zip_entries(zip_bytes({"weight": torch.zeros(4)}))
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in entries.items():
            archive.writestr(name, bytes(50_000_000) if name.endswith("data/0") else data)


def sizes_lie(path: Path, _: Path) -> None:
    """The directory of the zip claims 4 GB for one entry."""
    data = bytearray(zip_bytes())
    at = data.index(b"PK\x01\x02")
    data[at + 20 : at + 28] = struct.pack("<II", 0xFFFFFFF0, 0xFFFFFFF0)
    path.write_bytes(data)


def expanded_view(_: Path) -> Any:
    return {"features.0.weight": torch.zeros(1).expand(1 << 31, 64)}


def cyclic(_: Path) -> Any:
    content: dict[str, Any] = {"epoch": 3}
    content["state_dict"] = content
    return content


def cyclic_list(_: Path) -> Any:
    content: list[Any] = [1]
    content.append(content)
    return content


def deep(_: Path) -> Any:
    content: Any = {}
    for _level in range(200):
        content = {"model": content}
    return content


def deep_pickle() -> bytes:
    """Hundred thousand lists in one another: recursion in anything that walks them."""
    return pickle.PROTO + b"\x02" + pickle.EMPTY_LIST * 100_000 + pickle.STOP


def memo_bomb() -> bytes:
    """Each list holds the one before ten times, twenty deep: 10^20 items to whoever walks them."""
    data = pickle.PROTO + b"\x02" + b"]q\x00"
    for level in range(20):
        at = bytes([level])
        data += b"]q" + bytes([level + 1]) + b"(" + (b"h" + at) * 10 + b"e"
    return data + pickle.STOP


def huge_claim() -> bytes:
    """A byte string of two gigabytes, by its length alone."""
    return pickle.PROTO + b"\x04" + pickle.BINBYTES + struct.pack("<I", 0x7FFFFFFF) + b"ab"


def stack_underflow() -> bytes:
    return pickle.PROTO + b"\x02" + pickle.APPENDS + pickle.STOP


def persistent(path: Path, _: Path) -> None:
    """A pickle whose storage claims more numbers than its entry has."""
    entries = zip_entries(zip_bytes({"weight": torch.zeros(4)}))
    pickled = next(d for n, d in entries.items() if n.endswith("data.pkl"))
    assert pickled.count(b"K\x04") >= 1
    changed = pickled.replace(b"K\x04", b"J" + struct.pack("<i", 1 << 30))
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in entries.items():
            archive.writestr(name, changed if name.endswith("data.pkl") else data)


def header(value: Any, tail: bytes = b"") -> Builder:
    def build(path: Path, _: Path) -> None:
        text = value if isinstance(value, bytes) else json.dumps(value).encode()
        path.write_bytes(struct.pack("<Q", len(text)) + text + tail)

    return build


def entry(shape: list[Any], begin: Any, end: Any, dtype: str = "F32") -> dict[str, Any]:
    return {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}


def crc_fixed_flip(path: Path, _: Path) -> None:
    """A name inside the pickle is damaged and the CRC made right again."""
    entries = zip_entries(zip_bytes())
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in entries.items():
            archive.writestr(name, data.replace(b"_rebuild_tensor_v2", b"_rebuild_tensor_zz"))


def tar_file(path: Path, _: Path) -> None:
    with tarfile.open(path, "w") as archive:
        for name in ("sys_info", "pickle", "storages", "tensors"):
            info = tarfile.TarInfo(name)
            info.size = 4
            archive.addfile(info, io.BytesIO(b"\x80\x02N."))


def image(path: Path, _: Path) -> None:
    from PIL import Image

    Image.new("RGB", (64, 64), "red").save(path, "PNG")


def scripted(path: Path, _: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.save(torch.jit.script(nn.Linear(3, 4)), str(path))


def global_opcode(marker: Path) -> bytes:
    """Protocol 0, as text."""
    return b"cos\nsystem\n(S'touch " + str(marker).encode() + b"'\ntR."


def inst_opcode(marker: Path) -> bytes:
    """The oldest way to call: INST."""
    return b"(S'touch " + str(marker).encode() + b"'\nios\nsystem\n."


def into_zip(pickled: Callable[[Path], bytes]) -> Builder:
    def build(path: Path, marker: Path) -> None:
        zipped(replaced("data.pkl", pickled(marker)))(path, marker)

    return build


def protocol_four(marker: Path) -> bytes:
    """STACK_GLOBAL, with its names in the memo."""
    data = pickle.dumps(Runs(marker), protocol=4)
    assert any(op.name == "STACK_GLOBAL" for op, *_ in pickletools.genops(data))
    return data


def code(make: Callable[[Path], bytes]) -> Builder:
    return lambda path, marker: path.write_bytes(make(marker))


def whole_module(_: Path) -> Any:
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))


def index_file(content: Any) -> Builder:
    return lambda path, _: path.write_text(json.dumps(content))


def half_state(_: Path) -> Any:
    return {"features.0.weight": torch.zeros(64, 3, 7, 7).to_sparse()}


def quantized(_: Path) -> Any:
    return {"w": torch.quantize_per_tensor(torch.rand(4), 0.1, 0, torch.quint8)}


def twice_named() -> bytes:
    text = (
        b'{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},'
        b'"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}'
    )
    return struct.pack("<Q", len(text)) + text + bytes(4)


def double_entry(entries: dict[str, bytes]) -> dict[str, bytes]:
    name = next(iter(entries))
    return entries | {f"{name}#": b"another"}


CORPUS = [
    # Nothing in it, or something else.
    Broken("empty", ".pth", written(lambda: b""), "empty"),
    Broken("one-byte", ".pth", written(lambda: b"\x80"), "not a PyTorch weights file"),
    Broken("text", ".pth", written(lambda: b"hello, world\n" * 40), "not a PyTorch weights file"),
    Broken("html", ".pth", written(lambda: b"<!DOCTYPE html><title>404</title>" * 9), "web page"),
    Broken("zeros", ".pth", written(lambda: bytes(4096)), "zeros"),
    Broken("noise", ".pth", written(lambda: np.random.default_rng(0).bytes(9999)), "not a Py"),
    Broken("lfs", ".pth", written(lambda: b"version https://git-lfs.github.com/spec/v1\n"), "LFS"),
    Broken("png", ".pth", image, "a PNG picture"),
    Broken("gzip", ".pth", written(lambda: b"\x1f\x8b\x08" + bytes(99)), "gzip"),
    Broken("tar", ".pth", tar_file, "tar archive"),
    Broken("torchscript", ".pth", scripted, "TorchScript"),
    Broken("empty-tensors", ".safetensors", written(lambda: b""), "safetensors"),
    Broken("text-tensors", ".safetensors", written(lambda: b"hello, world\n" * 40), "safetensors"),
    Broken("pth-as-safetensors", ".safetensors", written(zip_bytes), "safetensors"),
    # Cut.
    *(
        Broken(f"zip-cut-{share}", ".pth", cut(zip_bytes, share), "damaged")
        for share in (0.001, 0.1, 0.5, 0.9, 0.999)
    ),
    *(
        Broken(f"legacy-cut-{share}", ".pth", cut(legacy_bytes, share), "damaged")
        for share in (0.001, 0.01, 0.5, 0.9, 0.999)
    ),
    *(
        Broken(f"safetensors-cut-{share}", ".safetensors", cut(tensors_bytes, share), "safetensors")
        for share in (0.0001, 0.001, 0.5, 0.999)
    ),
    # One byte changed.
    Broken("zip-magic", ".pth", flipped(zip_bytes, lambda d: 0), "damaged"),
    Broken("zip-data", ".pth", flipped(zip_bytes, lambda d: len(d) // 2, 1), "not those written"),
    Broken("zip-pickle", ".pth", flipped(zip_bytes, lambda d: d.index(b"_rebuild")), "damaged"),
    Broken("zip-directory", ".pth", flipped(zip_bytes, lambda d: d.index(b"PK\1\2")), "damaged"),
    Broken("zip-end", ".pth", flipped(zip_bytes, lambda d: len(d) - 20), "damaged"),
    Broken("zip-name", ".pth", crc_fixed_flip, "damaged"),
    Broken("legacy-magic", ".pth", flipped(legacy_bytes, lambda d: 4), "damaged"),
    Broken(
        "legacy-global", ".pth", flipped(legacy_bytes, lambda d: d.index(b"_rebuild"), 1), "code"
    ),
    Broken("safetensors-length", ".safetensors", flipped(tensors_bytes, lambda d: 1), "safetensor"),
    Broken(
        "safetensors-json", ".safetensors", flipped(tensors_bytes, lambda d: 8, 1), "safetensors"
    ),
    Broken(
        "safetensors-shape",
        ".safetensors",
        flipped(tensors_bytes, lambda d: d.index(b"[64") + 1, 1),
        "safetensors",
    ),
    # Code.
    Broken("code-zip", ".pth", saved(lambda m: {"w": torch.zeros(1), "x": Runs(m)}), "system"),
    Broken("code-legacy", ".pth", saved(Runs, zipped=False), "system"),
    Broken("code-plain-pickle", ".pth", code(lambda m: pickle.dumps(Runs(m), 2)), "system"),
    Broken("code-protocol-0", ".pth", code(global_opcode), "system"),
    Broken("code-inst", ".pth", code(inst_opcode), "system"),
    Broken("code-protocol-4", ".pth", code(protocol_four), "system"),
    Broken("code-in-repacked-zip", ".pth", into_zip(global_opcode), "system"),
    Broken("code-inst-in-zip", ".pth", into_zip(inst_opcode), "system"),
    Broken("code-named-safetensors", ".safetensors", code(global_opcode), "safetensors"),
    Broken("code-after-the-tensors", ".pt", saved(lambda m: [small_state(), Runs(m)]), "system"),
    Broken("whole-module", ".pth", saved(whole_module), "torch.nn.modules.conv.Conv2d"),
    Broken("whole-module-legacy", ".pth", saved(whole_module, zipped=False), "Conv2d"),
    Broken(
        "namespace",
        ".pth",
        saved(lambda _: {"state_dict": small_state(), "args": Namespace(lr=1)}),
        "argparse.Namespace",
    ),
    Broken(
        "numpy-scalar",
        ".pth",
        saved(lambda _: {"state_dict": small_state(), "best": np.float64(0.5)}),
        "numpy",
    ),
    Broken("path", ".pth", saved(lambda _: {"w": torch.zeros(1), "at": Path("a")}), "pathlib"),
    Broken(
        "simple-namespace",
        ".pth",
        saved(lambda _: {"w": torch.zeros(1), "a": types.SimpleNamespace(b=1)}),
        "SimpleNamespace",
    ),
    # More claimed than there is.
    Broken("header-terabytes", ".safetensors", code(lambda _: b"\xff" * 8 + b"{}"), "safetensors"),
    Broken(
        "header-gigabytes",
        ".safetensors",
        code(lambda _: struct.pack("<Q", 1 << 31) + b"{" * 64),
        "safetensors",
    ),
    Broken(
        "tensor-terabytes",
        ".safetensors",
        header({"a": entry([1 << 40], 0, 1 << 42)}),
        "safetensors",
    ),
    Broken("shape-overflow", ".safetensors", header({"a": entry([1 << 62, 8], 0, 0)}), "safetens"),
    Broken("negative-shape", ".safetensors", header({"a": entry([-1], 0, -4)}), "safetensors"),
    Broken("holes", ".safetensors", header({"a": entry([1], 4, 8)}, bytes(8)), "safetensors"),
    Broken(
        "overlap",
        ".safetensors",
        header({"a": entry([2], 0, 8), "b": entry([1], 4, 8)}, bytes(8)),
        "safetensors",
    ),
    Broken("more-bytes", ".safetensors", header({"a": entry([1], 0, 4)}, bytes(99)), "safetensors"),
    Broken("odd-dtype", ".safetensors", header({"a": entry([1], 0, 4, "X9")}, bytes(4)), "X9"),
    Broken("no-json", ".safetensors", header(b"{not json at all"), "safetensors"),
    Broken("json-list", ".safetensors", header([1, 2, 3]), "safetensors"),
    Broken("json-deep", ".safetensors", header(b"[" * 50_000 + b"]" * 50_000), "safetensors"),
    Broken("json-no-offsets", ".safetensors", header({"a": {"dtype": "F32"}}), "safetensors"),
    Broken("json-odd-shape", ".safetensors", header({"a": entry(["x"], 0, 4)}), "safetensors"),
    Broken("json-not-utf8", ".safetensors", header(b'{"\xff\xfe": 1}'), "safetensors"),
    Broken("name-twice", ".safetensors", written(twice_named), "safetensors"),
    Broken("no-tensors", ".safetensors", header({}), "no"),
    Broken("zip-of-zeros", ".pth", zeros_bomb, "compressed"),
    Broken("zip-sizes", ".pth", sizes_lie, "damaged"),
    Broken("storage-claims", ".pth", persistent, "`"),
    Broken("expanded-view", ".pth", saved(expanded_view), "claims"),
    Broken("pickle-bytes", ".pth", written(huge_claim), "not a PyTorch weights file"),
    Broken("pickle-deep", ".pth", written(deep_pickle), "not a PyTorch weights file"),
    Broken("pickle-deep-in-zip", ".pth", into_zip(lambda _: deep_pickle()), "`"),
    Broken("pickle-doubling", ".pth", into_zip(lambda _: memo_bomb()), "`"),
    Broken("pickle-underflow", ".pth", into_zip(lambda _: stack_underflow()), "damaged"),
    Broken("pickle-without-end", ".pth", into_zip(lambda _: b"\x80\x02}"), "damaged"),
    Broken("pickle-empty", ".pth", into_zip(lambda _: b""), "damaged"),
    # A zip that torch.save did not write.
    Broken("zip-without-pickle", ".pth", zipped(without("data.pkl")), "data.pkl"),
    Broken("zip-without-tensor", ".pth", zipped(without("data/1")), "damaged"),
    Broken("zip-empty", ".pth", zipped(lambda _: {}), "data.pkl"),
    Broken("zip-two-of-one-name", ".pth", zipped(double_entry), "one name"),
    Broken("zip-compressed", ".pth", zipped(lambda e: e, zipfile.ZIP_DEFLATED), "compressed"),
    Broken("zip-of-pictures", ".zip", zipped(lambda _: {"a.jpg": b"x", "b.jpg": b"y"}), "data.pkl"),
    # Whole, but no network.
    Broken("dict-empty", ".pth", saved(lambda _: {}), "no"),
    Broken("dict-of-dicts", ".pth", saved(lambda _: {"a": {"b": {"c": {}}}}), "no"),
    Broken("dict-of-numbers", ".pth", saved(lambda _: {"epoch": 3, "lr": 0.1}), "no"),
    Broken("keys-of-numbers", ".pth", saved(lambda _: {1: torch.zeros(2)}), "`"),
    Broken("keys-mixed", ".pth", saved(lambda _: {"a": torch.zeros(2), 3: torch.zeros(2)}), "`"),
    Broken("keys-none", ".pth", saved(lambda _: {None: torch.zeros(2)}), "`"),
    Broken("number", ".pth", saved(lambda _: 3), "no"),
    Broken("string", ".pth", saved(lambda _: "weights"), "no"),
    Broken("none", ".pth", saved(lambda _: None), "no"),
    Broken("list", ".pth", saved(lambda _: [1, 2]), "no"),
    Broken("one-tensor", ".pth", saved(lambda _: torch.zeros(3)), "no"),
    Broken("cyclic", ".pth", saved(cyclic), "contains itself"),
    Broken("cyclic-list", ".pth", saved(cyclic_list), "no"),
    Broken("deep", ".pth", saved(deep), "nests"),
    Broken("sparse", ".pth", saved(half_state), "sparse"),
    Broken("quantized", ".pth", saved(quantized), "quantized"),
    Broken("unknown-network", ".pth", saved(lambda _: {"a.b": torch.zeros(3)}), "a.b"),
    Broken("half-a-network", ".pth", written(zip_bytes), "`", inspectable=True),
    # Shards.
    Broken("shards-no-map", ".safetensors.index.json", index_file({}), "weight_map"),
    Broken("shards-list", ".safetensors.index.json", index_file([1]), "weight_map"),
    Broken("shards-text", ".safetensors.index.json", written(lambda: b"{"), "weight_map"),
    Broken("shards-none", ".safetensors.index.json", index_file({"weight_map": {}}), "no"),
    Broken(
        "shards-gone",
        ".safetensors.index.json",
        index_file({"weight_map": {"a": "x-00001-of-00002.safetensors"}}),
        "missing",
    ),
    Broken(
        "shards-elsewhere",
        ".safetensors.index.json",
        index_file({"weight_map": {"a": "../../etc/passwd"}}),
        "beside",
    ),
]
