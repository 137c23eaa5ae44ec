"""OpenVINO on the CPU (extra `fast`): the network as one compiled graph. No torch to run it.

A graph is compiled once for each network, precision, version and kind of processor, and kept in the
user's cache folder, so that one picture costs no seconds of imports: importing OpenVINO takes 0.3 s
and a ResNet-18 from the cache 0.1 s, where torch with torchvision takes 2 to 5 s (two cores).
"""

import contextlib
import hashlib
import logging
import os
import platform
import queue
import struct
import sys
import threading
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from cgdcli.config import CGDConfig, EmbedPrecision
from cgdcli.engines import Rows, Source
from cgdcli.engines.quantized import QuantizedGraph
from cgdcli.errors import CGDError, CheckpointError, ConfigError
from cgdcli.files import atomic_path, user_cache
from cgdcli.launch import cores

if TYPE_CHECKING:
    from cgdcli.model.cgd import CGD

logger = logging.getLogger("cgdcli")

# Graphs that compiled networks look into, kept until the process ends: their pages are the file's,
# and one that was given back too early would end the process.
_MAPPED: list[Any] = []

# Compiled networks that are kept, the last used; a ResNet-18 takes 46 MB.
KEPT = 16
# A graph computes what PyTorch computes: rows of unit length, 1.4e-7 apart at most (ResNet-18).
TOLERANCE = 1e-4
# Of int8, what the layers that are not quantized compute in.
_HINTS = {
    EmbedPrecision.fp32: "f32",
    EmbedPrecision.bf16: "bf16",
    EmbedPrecision.int8: "bf16",
}


class OpenVINOEngine:
    """One compiled network; a thread for each core, each with a stream of its own."""

    name = "openvino"
    on_cpu = True
    # The first inference of a process goes alone: two at once wait for each other for ever, one in
    # pybind11's once-only set-up of NumPy, holding its guard and wanting the interpreter's lock,
    # one the other way round (seen with OpenVINO 2026.4).
    _alone = threading.Lock()
    _begun = threading.Event()

    def __init__(self, compiled: Any, config: CGDConfig, precision: EmbedPrecision) -> None:
        self.config, self.precision, self.parallel = config, precision.value, cores()
        self._requests: queue.SimpleQueue[Any] = queue.SimpleQueue()
        for _ in range(self.parallel):
            self._requests.put(compiled.create_infer_request())
        logger.debug("engine openvino, %s, on the CPU, %d streams", precision, self.parallel)

    def embed(self, pixels: NDArray[np.uint8]) -> Rows:
        """See `engines.Engine`; any number of threads may call it."""
        if self._begun.is_set():
            return self._infer(pixels)
        with self._alone:
            rows = self._infer(pixels)
            self._begun.set()
            return rows

    def _infer(self, pixels: NDArray[np.uint8]) -> Rows:
        request = self._requests.get()
        try:
            return np.array(request.infer({0: pixels})[0], dtype=np.float32)
        finally:
            self._requests.put(request)


def is_installed() -> bool:
    """Whether the extra `fast` is there; nothing is imported to find out."""
    return _version() is not None


def has_bf16() -> bool:
    """Whether this processor does; where not, OpenVINO computes fp32 and says nothing."""
    return "BF16" in openvino_core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")


def cached_engine(
    fingerprint: str, precision: EmbedPrecision, config: CGDConfig
) -> OpenVINOEngine | None:
    """The engine of a network that was compiled before, or None. Imports no torch.

    Args:
        fingerprint: of the network; of an int8 one the digest of its graph.
        config: of the network, whose fingerprint covers it.
    """
    if not is_installed():
        return None
    file = _cache_file(fingerprint, precision)
    try:
        graph = read_graph(file)
    except OSError:
        return None
    try:
        compiled = _imported(graph, precision)
    except Exception as error:  # of a damaged file or another machine: RuntimeError, mostly
        logger.info("%s is not taken (%s): compiled anew", file, str(error).splitlines()[0])
        file.unlink(missing_ok=True)
        return None
    with contextlib.suppress(OSError):
        os.utime(file)
    return OpenVINOEngine(compiled, config, precision)


def _imported(graph: NDArray[np.uint8], precision: EmbedPrecision) -> Any:
    """What was compiled. It looks into the graph's memory as long as any of its requests lives."""
    core = openvino_core()
    memory = _package_to_run().Tensor(graph, shared_memory=True)
    _MAPPED.append(memory)
    return core.import_model(memory, "CPU", properties(precision))


def openvino_engine(source: Source, precision: EmbedPrecision) -> OpenVINOEngine:
    """The engine of a network, from the cache where it is there, else compiled and put there.

    Imports torch only to compile.

    Raises:
        ConfigError: OpenVINO is not installed.
        CheckpointError: it cannot compile this network, or not to the same result.
    """
    if not is_installed():
        raise ConfigError(
            "--engine openvino: OpenVINO is not installed",
            hint="pip install 'cgdcli[fast]', or leave --engine out",
        )
    found = cached_engine(source.fingerprint, precision, source.config)
    if found is not None:
        return found
    logger.info("compiling %s for this processor, once", source.config.backbone)
    compiled = _compiled(source.model, precision)
    engine = OpenVINOEngine(compiled, source.config, precision)
    _check(engine, source.model)
    keep_graph(_cache_file(source.fingerprint, precision), compiled.export_model().getvalue())
    return engine


def quantized_engine(graph: QuantizedGraph, config: CGDConfig) -> OpenVINOEngine:
    """The engine of a quantized network, compiled once as the others are. No torch, no NNCF.

    Raises:
        CheckpointError: OpenVINO cannot compile it.
    """
    found = cached_engine(graph.digest, EmbedPrecision.int8, config)
    if found is not None:
        return found
    how = properties(EmbedPrecision.int8)
    try:
        compiled = openvino_core().compile_model(graph.opened(openvino_package()), "CPU", how)
        exported = compiled.export_model().getvalue()
        # What was compiled may look into the graph's memory as long as it lives, this does not.
        compiled = openvino_core().import_model(exported, "CPU", how)
    except Exception as error:  # of another version's operations: RuntimeError, mostly
        raise CheckpointError(
            f"OpenVINO cannot compile the quantized {config.backbone}: "
            f"{str(error).splitlines()[0]}",
            hint="update it: pip install -U 'cgdcli[fast]'",
        ) from error
    keep_graph(_cache_file(graph.digest, EmbedPrecision.int8), exported)
    return OpenVINOEngine(compiled, config, EmbedPrecision.int8)


def _compiled(model: "CGD", precision: EmbedPrecision) -> Any:
    graph = converted(model)
    try:
        return openvino_core().compile_model(graph, "CPU", properties(precision))
    except Exception as error:
        raise _cannot("compile", model, error) from error


def converted(model: "CGD") -> Any:
    """OpenVINO's graph of a network: uint8 (N, S, S, 3) to unit rows (N, D), for any N.

    Raises:
        CheckpointError: it cannot convert this network.
    """
    import warnings

    import torch

    from cgdcli.model.cgd import PixelsToEmbedding

    openvino = openvino_package()
    size = model.config.transform.image_size
    example = torch.zeros((2, size, size, 3), dtype=torch.uint8)
    home = next(model.parameters()).device
    try:
        with warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore")  # of tracing: shapes that are constants here
            graph = openvino.convert_model(
                PixelsToEmbedding(model).cpu().eval(), example_input=example
            )
        graph.reshape([-1, size, size, 3])
    except Exception as error:  # whatever a converter raises on a layer it does not know
        raise _cannot("convert", model, error) from error
    finally:
        model.to(home)
    return graph


def _cannot(do: str, model: "CGD", error: Exception) -> CheckpointError:
    return CheckpointError(
        f"OpenVINO cannot {do} {model.config.backbone}: {str(error).splitlines()[0]}",
        hint="leave it to PyTorch: --engine torch",
    )


def _check(engine: OpenVINOEngine, model: "CGD") -> None:
    """In float32 the two must agree on noise; a reduced precision is judged on pictures."""
    if engine.precision != EmbedPrecision.fp32:
        return
    import torch

    size = model.config.transform.image_size
    pixels = np.random.default_rng(0).integers(0, 256, (2, size, size, 3), dtype=np.uint8)
    apart = float(
        np.abs(engine.embed(pixels) - model.embed(torch.from_numpy(pixels)).cpu().numpy()).max()
    )
    if not apart <= TOLERANCE:
        raise CheckpointError(
            f"OpenVINO's {model.config.backbone} differs from PyTorch's by {apart:.2g}; at most "
            f"{TOLERANCE:g} is wanted",
            hint="leave it to PyTorch: --engine torch",
        )


def openvino_package() -> Any:
    """The package, kept from reporting to its makers: it would at every conversion."""
    package = _package_to_run()
    if not hasattr(package, "convert_model"):
        package.convert_model = import_module("openvino.tools.ovc").convert_model
    return package


def openvino_core() -> Any:
    """What reads and compiles graphs."""
    return _package_to_run().Core()


def _package_to_run() -> Any:
    """The package without its converter, which a compiled graph does not need: half of what
    importing all of it takes (0.08 s of processor time)."""
    if "openvino" not in sys.modules:
        sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
        converter = "openvino.tools.ovc"
        sys.modules[converter] = None  # type: ignore[assignment]  # as if it were not installed
        try:
            import_module("openvino")
        finally:
            del sys.modules[converter]
    return sys.modules["openvino"]


def properties(precision: EmbedPrecision) -> dict[str, Any]:
    """Of compiling, all said: left to itself OpenVINO takes bf16 where the processor has it."""
    return {
        "INFERENCE_NUM_THREADS": cores(),
        "NUM_STREAMS": cores(),
        "INFERENCE_PRECISION_HINT": _HINTS[precision],
    }


def _version() -> str | None:
    try:
        return version("openvino")
    except PackageNotFoundError:
        return None


def cache_folder() -> Path:
    """Where compiled networks are kept."""
    return user_cache() / "engines"


def _cache_file(fingerprint: str, precision: EmbedPrecision) -> Path:
    name = f"{fingerprint[:32]}-openvino-{_version()}-{precision}-{_processor()}.graph"
    return cache_folder() / name


def computed_by() -> str:
    """Version of OpenVINO, if it is there, and kind of processor."""
    return f"{_version()}-{_processor()}"


def _processor() -> str:
    """The kind of processor: a graph is compiled for its instructions."""
    about = Path("/proc/cpuinfo")
    words = platform.machine() + platform.processor()
    with contextlib.suppress(OSError):
        lines = about.read_text().splitlines()
        kinds = ("model name", "flags", "Features")
        words += "".join(dict.fromkeys(line for line in lines if line.startswith(kinds)))
    return hashlib.sha256(words.encode()).hexdigest()[:12]


def read_graph(file: Path) -> NDArray[np.uint8]:
    """A kept graph: its length and SHA-256, then itself. Mapped: reading 46 MB takes 0.1 s.

    Raises:
        OSError: there is none, or it is not whole.
    """
    if file.stat().st_size < 40:
        raise OSError(f"{file} is damaged")
    # Copied where it is written to: nobody writes, but OpenVINO takes no memory that is read-only.
    kept = np.memmap(file, dtype=np.uint8, mode="c")
    head, graph = bytes(kept[:40]), kept[40:]
    length = int.from_bytes(head[:8], "little")
    if len(graph) != length or hashlib.sha256(graph.data).digest() != head[8:]:
        raise OSError(f"{file} is damaged")
    return graph


def keep_graph(file: Path, graph: bytes) -> None:
    """Put a graph into the cache; one that cannot be written to is no failure."""
    try:
        _write(file, graph)
    except (OSError, CGDError) as error:
        logger.info("the compiled network is not kept for the next time: %s", error)


def _write(file: Path, graph: bytes) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    with atomic_path(file) as temporary:
        head = struct.pack("<Q", len(graph)) + hashlib.sha256(graph).digest()
        temporary.write_bytes(head + graph)
    kept = sorted(file.parent.glob("*.graph"), key=lambda f: f.stat().st_mtime, reverse=True)
    for old in kept[KEPT:]:
        old.unlink(missing_ok=True)
