"""What runs in a trunk: its leaves, and the products that modules compute without one."""

from collections import Counter
from math import prod
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from cgdcli.model.backbones import ResNetBackbone, Trunk
from cgdcli.reports import LayerProfile

BYTES = 4  # float32
# The kind of an entry that only holds parameters; and modules that compute nothing when a network
# is used.
HELD = "parameters"
IDLE = {"Identity", "Dropout", "Dropout2d", "StochasticDepth", "DropPath", "Permute", HELD}
# Arithmetic outside of leaves, by PyTorch's names, and what it is called here.
_ARITHMETIC = {
    "add": "addition",
    "mul": "multiplication",
    "div": "division",
    "_softmax": "softmax",
    "_safe_softmax": "softmax",
    "sigmoid": "sigmoid",
    "relu": "ReLU",
    "gelu": "GELU",
    "silu": "SiLU",
    "native_layer_norm": "LayerNorm",
    "native_batch_norm": "BatchNorm2d",
    "_native_batch_norm_legit_no_training": "BatchNorm2d",
    "native_group_norm": "GroupNorm",
    "linalg_vector_norm": "L2 normalization",
    "mean": "mean",
    "avg_pool2d": "AvgPool2d",
    "max_pool2d_with_indices": "MaxPool2d",
}


class Watch:
    """One run of a trunk on the meta device.

    Attributes:
        layers: every leaf that ran, in order; after it modules that compute products themselves
            (attention) or hold parameters, and parameters of no module that ran.
        others: by stage, what runs besides modules.
    """

    def __init__(self, trunk: Trunk) -> None:
        self.trunk = trunk
        self.layers: list[LayerProfile] = []
        self.others: dict[str, Counter[str]] = {name: Counter() for name in trunk.stage_names}
        self._running: list[str] = []
        self._products: dict[str, tuple[int, int]] = {}
        self._seen: set[int] = set()
        self._names = {"add": "residual addition"} if isinstance(trunk, ResNetBackbone) else {}

    def run(self, x: Tensor) -> Tensor:
        """Pictures (1, 3, H, W) on the meta device to their map."""
        handles = []
        for name, module in self.trunk.named_modules():
            if name:
                handles.append(module.register_forward_pre_hook(self._enters(name)))
                handles.append(module.register_forward_hook(self._leaves(name)))
        try:
            with torch.no_grad(), _Operations(self):
                x = self.trunk(x)
        finally:
            for handle in handles:
                handle.remove()
        self._lone_parameters()
        order = list(self.trunk.stage_names)
        self.layers.sort(key=lambda layer: order.index(layer.stage))  # stable: runs stay in order
        return x

    def operation(self, name: str, macs: int, values: int) -> None:
        """Note an operation, unless it is that of a leaf."""
        inside = self._running[-1] if self._running else ""
        module = self.trunk.get_submodule(inside)
        if isinstance(module, nn.Conv2d | nn.Linear):  # counted by its own formula
            return
        if macs:
            before = self._products.get(inside, (0, 0))
            self._products[inside] = (before[0] + macs, before[1] + values)
        elif name in _ARITHMETIC and list(module.children()):
            stage = self.trunk.stage_of(inside) if inside else self._last_stage()
            self.others[stage][self._names.get(name, _ARITHMETIC[name])] += 1

    def _last_stage(self) -> str:
        return self.layers[-1].stage if self.layers else self.trunk.stage_names[0]

    def _enters(self, name: str) -> Any:
        def hook(module: nn.Module, inputs: tuple[Any, ...]) -> None:
            self._running.append(name)

        return hook

    def _leaves(self, name: str) -> Any:
        def hook(module: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
            self._running.pop()
            self._note(name, module, inputs, output)

        return hook

    def _note(self, name: str, module: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
        stage, full = self.trunk.stage_of(name), f"backbone.{name}"
        shape, after = _shape(inputs), _shape(output)
        fresh: list[nn.Parameter] = [p for p in module.parameters() if id(p) not in self._seen]
        parts = list(module.children())
        if name in self._products or (fresh and parts):
            macs, values = self._products.pop(name, (0, 0))
            kind = type(module).__name__ if macs else HELD
            moved = prod(shape) + prod(after) if macs else 0
            self.layers.append(_whole(full, stage, kind, fresh, macs, values, moved, after))
        elif not parts:
            self.layers.append(layer_of(full, stage, module, shape, output))
        self._seen |= {id(p) for p in fresh}

    def _lone_parameters(self) -> None:
        """Parameters of modules that do not run as such stand first in their stage."""
        for name, parameter in self.trunk.named_parameters():
            if id(parameter) not in self._seen:
                stage = self.trunk.stage_of(name.rpartition(".")[0] or name)
                shape = tuple(parameter.shape)
                entry = _whole(f"backbone.{name}", stage, HELD, [parameter], 0, 0, 0, shape)
                self.layers.insert(0, entry)


def _whole(
    name: str,
    stage: str,
    kind: str,
    parameters: list[nn.Parameter],
    macs: int,
    activations: int,
    moved: int,
    shape: tuple[int, ...],
) -> LayerProfile:
    """A module with parts, or parameters of none."""
    held = sum(p.numel() for p in parameters)
    return LayerProfile(
        name, stage, kind, held, held * BYTES, macs, activations, moved, shape, macs > 0
    )


def _shape(value: Any) -> tuple[int, ...]:
    """Of one picture, which may be cut into windows; of several maps the first's; () of what is
    no map, such as the size that positions are made for."""
    while isinstance(value, tuple | list) and value:
        value = value[0]
    if not isinstance(value, Tensor):
        return ()
    shape = tuple(int(n) for n in value.shape)
    return shape[1:] if shape[0] == 1 else shape


class _Operations(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Tells every operation of PyTorch with its MACs, by PyTorch's own formulas."""

    def __init__(self, watch: Watch) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.watch = watch

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        packet = func._overloadpacket
        count = flop_registry.get(packet, lambda *_, **__: 0)
        flops = count(*args, **(kwargs or {}), out_val=out)
        values = out.numel() if isinstance(out, Tensor) else 0
        self.watch.operation(packet.__name__.rstrip("_"), int(flops) // 2, values)
        return out


def layer_of(
    name: str, stage: str, module: nn.Module, inputs: tuple[int, ...], output: Tensor | None = None
) -> LayerProfile:
    """One leaf by its input's shape, and its output where it ran; a head's is known without."""
    shape = inputs if output is None else _shape(output)
    if isinstance(module, nn.Linear):
        shape = (*shape[:-1], module.out_features)
        macs = module.in_features * prod(shape)
    elif isinstance(module, nn.Conv2d):
        assert output is not None
        macs = convolution_macs(module, output)
    else:
        macs = 0
    counted = isinstance(module, (nn.Conv2d, nn.Linear))
    parameters = parameters_of(module)
    return LayerProfile(
        name,
        stage,
        type(module).__name__,
        parameters,
        parameters * BYTES,
        macs,
        prod(shape) if counted else 0,
        prod(inputs) + prod(shape),
        shape,
        counted,
    )


def convolution_macs(module: nn.Conv2d, output: Tensor) -> int:
    """Each output value takes one MAC per weight of its filter: C_in / groups x kernel area."""
    kernel = prod(module.kernel_size)
    return output.numel() * (module.in_channels // module.groups) * kernel


def parameters_of(module: nn.Module) -> int:
    """How many numbers a module learns."""
    return sum(p.numel() for p in module.parameters())
