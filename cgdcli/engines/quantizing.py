"""Making an int8 network (extra `int8`): NNCF calibrates it on pictures. To run it takes neither.

Post-training quantization as Jacob et al. describe it (CVPR 2018, arXiv 1712.05877): weights of a
convolution in 8 bits with a scale for every output channel, what goes into it in 8 bits with one
scale, taken from pictures; biases are corrected for the mean error (Nagel et al., ICCV 2019, arXiv
1906.04721). What each choice here gives stands in `examples/benchmarks/int8_parity.md`.
"""

import contextlib
import hashlib
import io
import logging
import time
from dataclasses import astuple, dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from cgdcli.config import RESNETS
from cgdcli.engines import Source
from cgdcli.engines.openvino_engine import (
    cache_folder,
    converted,
    keep_graph,
    openvino_package,
    read_graph,
)
from cgdcli.engines.openvino_engine import is_installed as has_openvino
from cgdcli.engines.quantized import QuantizedGraph
from cgdcli.errors import CheckpointError, ConfigError

if TYPE_CHECKING:
    pass

logger = logging.getLogger("cgdcli")

# As the converter names what `PixelsToEmbedding` holds.
_BACKBONE = "__module.network.backbone"
_CONVOLUTIONS = ("Convolution", "GroupConvolution")
# So much is multiplied that what is around it is worth quantizing.
_WEIGHTY = (*_CONVOLUTIONS, "MatMul")


@dataclass(frozen=True)
class Recipe:
    """What stays in float, and how the rest is calibrated; the defaults are those of `cgd embed`.

    Attributes:
        pooling: all behind the backbone stays: a cube or a norm of 8 bits is none.
        first: the first convolution and what is before it stay.
        additions: sums of two maps stay, and so does what goes past a block.
        stages: parts of the backbone that stay, by the beginning of their names (`layer1`).
        ranges: how the range of a map is found (NNCF's `RangeEstimatorParametersSet`).
        symmetric: maps have no zero point (NNCF's preset `performance`).
        accurate: each layer's bias is corrected by what reaches it through the quantized ones.
    """

    pooling: bool = True
    first: bool = True
    additions: bool = False
    stages: tuple[str, ...] = ("layer1.0",)
    ranges: str = "MINMAX"
    symmetric: bool = False
    accurate: bool = False


def is_installed() -> bool:
    """Whether a network can be quantized; nothing is imported to find out."""
    return _version() is not None and has_openvino()


def check_installed() -> None:
    """Say what is missing before pictures are read for it.

    Raises:
        ConfigError: NNCF or OpenVINO is not installed.
    """
    if not is_installed():
        raise ConfigError(
            "--precision int8: the network has to be quantized, and NNCF is not installed",
            hint="pip install 'cgdcli[int8]', or choose another --precision",
        )


def calibrated(source: Source, pixels: NDArray[np.uint8]) -> QuantizedGraph:
    """The network, calibrated on pictures; those calibrated before on the same are in the cache.

    Args:
        pixels: (N, H, W, 3), resized already.

    Raises:
        ConfigError: NNCF or OpenVINO is not installed.
        CheckpointError: they cannot quantize this network, or it is no ResNet.
    """
    check_installed()
    if source.config.backbone not in RESNETS:
        # OpenVINO 2026.4 ends a process at a MobileNetV3 in int8, in passes of 8 pictures.
        raise CheckpointError(
            f"int8 is for ResNets, which it was measured on; this is {source.config.backbone}",
            hint="choose --precision bf16, or auto",
        )
    pictures = hashlib.sha256(pixels.tobytes()).hexdigest()
    made_by = hashlib.sha256(repr((_version(), astuple(Recipe()))).encode()).hexdigest()
    name = f"{source.fingerprint[:32]}-calibrated-{pictures[:32]}-{made_by[:12]}.graph"
    with contextlib.suppress(OSError):
        return QuantizedGraph(read_graph(cache_folder() / name).tobytes())
    from cgdcli.engines.rounding import with_rounded_weights

    started = time.monotonic()
    try:
        rounded = with_rounded_weights(source.model, pixels)
        quantized = quantize(converted(rounded), pixels)
    except CheckpointError:
        raise
    except Exception as error:  # whatever NNCF raises on a graph it does not understand
        raise CheckpointError(
            f"NNCF cannot quantize {source.config.backbone}: {str(error).splitlines()[0]}",
            hint="choose another --precision",
        ) from error
    graph = QuantizedGraph.of(quantized, openvino_package())
    keep_graph(cache_folder() / name, graph.data)
    logger.info(
        "quantized in %.0f s, calibrated on %d of the pictures",
        time.monotonic() - started,
        len(pixels),
    )
    return graph


def quantize(graph: Any, pixels: NDArray[np.uint8], recipe: Recipe | None = None) -> Any:
    """An `openvino.Model` in int8, calibrated on pictures (N, H, W, 3), of one in float32."""
    recipe = recipe or Recipe()
    openvino_package()  # first, and kept from reporting: NNCF would load it otherwise
    with contextlib.redirect_stdout(io.StringIO()):  # it draws its progress there
        import nncf
        from nncf.quantization.advanced_parameters import OverflowFix
        from nncf.quantization.range_estimator import RangeEstimatorParametersSet

        # Not nncf.set_log_level, which also mutes every handler that others put on its logger.
        logging.getLogger("nncf").setLevel(logging.ERROR)
        kept = in_float(graph, recipe)
        preset = "PERFORMANCE" if recipe.symmetric else "MIXED"
        return nncf.quantize(
            graph,
            nncf.Dataset([pixels[i : i + 1] for i in range(len(pixels))]),
            preset=nncf.QuantizationPreset[preset],
            target_device=nncf.TargetDevice.CPU,
            subset_size=len(pixels),
            fast_bias_correction=not recipe.accurate,
            ignored_scope=nncf.IgnoredScope(names=kept, validate=False),
            advanced_parameters=nncf.AdvancedQuantizationParameters(
                # Else the first layer would have 7 bits, for processors without VNNI, and every
                # odd level of its weights be rounded the same way: cosine .9947 for .9992.
                overflow_fix=OverflowFix.DISABLE,
                activations_range_estimator_params=getattr(
                    RangeEstimatorParametersSet, recipe.ranges
                ),
            ),
        )


def in_float(graph: Any, recipe: Recipe) -> list[str]:
    """Names of the operations that stay in float."""
    operations = [
        operation
        for operation in graph.get_ordered_ops()
        if operation.get_type_name() not in ("Constant", "Parameter", "Result", "Convert")
    ]
    names = [operation.get_friendly_name() for operation in operations]
    kinds = [operation.get_type_name() for operation in operations]
    last = max((i for i, name in enumerate(names) if name.startswith(_BACKBONE)), default=-1)
    first = next((i for i, kind in enumerate(kinds) if kind in _WEIGHTY), -1)
    kept = set[str]()
    if recipe.pooling:
        kept.update(names[last + 1 :])
    if recipe.first:
        kept.update(names[: first + 1])
    if recipe.additions:
        kept.update(name for i, name in enumerate(names) if _adds_maps(operations[i]))
    for stage in recipe.stages:
        kept.update(_of_stage(names, kinds, f"{_BACKBONE}.{stage}"))
    return sorted(kept)


def _adds_maps(operation: Any) -> bool:
    """Whether it is the sum at the end of a block, of two maps; a bias is a constant."""
    if operation.get_type_name() != "Add":
        return False
    return all(
        operation.input_value(i).get_node().get_type_name() not in ("Constant", "Convert")
        for i in (0, 1)
    )


def _of_stage(names: list[str], kinds: list[str], beginning: str) -> set[str]:
    """A convolution with its norm folded in has lost its name: it goes with what it is added to."""
    found, nameless = set[str](), list[str]()
    for name, kind in zip(names, kinds, strict=True):
        if not name.startswith(_BACKBONE):
            nameless += [name] if kind in _CONVOLUTIONS else []
            continue
        if name.startswith(beginning):
            found.update(nameless, [name])
        nameless = []
    return found


def _version() -> str | None:
    try:
        return version("nncf")
    except PackageNotFoundError:
        return None
