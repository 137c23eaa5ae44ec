"""What the processes of a run compute as one: the rows and the BatchNorm statistics of all parts.

Every process computes the whole loss on the rows of all. What crosses processes on the way forward
has its transpose on the way back, a sum over them, so that a process finds the gradient of the SUM
of all their equal losses; DistributedDataParallel's mean over processes makes it the gradient of
one. It does so for what comes before the rows are joined, where each process has a part, and after
it (classifier, proxies), where each has the same: no loss needs a factor.

Shape letters: b rows of this process, B those of all, D columns.
"""

from collections.abc import Sequence
from typing import Any, cast

import torch
import torch.distributed as dist
from torch import Tensor, nn

from cgdcli.errors import TrainingError


def join(rows: Tensor, sizes: Sequence[int]) -> Tensor:
    """(b, ...) of every process to (B, ...), in order of rank, with gradient.

    Args:
        sizes: b of every process; 0 is allowed.
    """
    if len(sizes) == 1:
        return rows
    if not rows.is_floating_point():
        return _gathered(rows, sizes)
    return cast(Tensor, _Join.apply(rows, sizes))


class _Join(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, rows: Tensor, sizes: Sequence[int]) -> Tensor:
        start = sum(sizes[: dist.get_rank()])
        ctx.own = slice(start, start + len(rows))
        return _gathered(rows, sizes)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return _summed(gradient)[ctx.own], None


class _Sum(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, part: Tensor) -> Tensor:
        return _summed(part)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        return _summed(gradient)


def _gathered(rows: Tensor, sizes: Sequence[int]) -> Tensor:
    # Gloo wants equal shapes, so all are filled up to the longest.
    filled = rows.new_zeros(max(sizes), *rows.shape[1:])
    filled[: len(rows)] = rows
    parts = [torch.empty_like(filled) for _ in sizes]
    dist.all_gather(parts, filled)
    return torch.cat([part[:size] for part, size in zip(parts, sizes, strict=True)])


def _summed(part: Tensor) -> Tensor:
    total = part.clone(memory_format=torch.contiguous_format)
    dist.all_reduce(total)
    return total


class JointBatchNorm2d(nn.BatchNorm2d):
    """BatchNorm2d whose statistics in training are those of all processes' pictures.

    What torch.nn.SyncBatchNorm is on GPUs, for the CPU, which that one refuses. A process may have
    no picture.
    """

    def forward(self, x: Tensor) -> Tensor:
        """(b, C, H, W) to the same, in its own dtype."""
        if not self.training:
            return super().forward(x)
        values = x if x.dtype == torch.float64 else x.float()  # bf16 sums lose the variance
        count = _summed(values.new_tensor(x.numel() / x.shape[1]))
        places = (0, 2, 3)
        mean: Tensor = _Sum.apply(values.sum(places)) / count
        centred = values - mean[:, None, None]
        variance: Tensor = _Sum.apply(centred.square().sum(places)) / count
        self._remember(mean.detach(), variance.detach() * count / (count - 1))
        scale = self.weight * (variance + self.eps).rsqrt()
        return (centred * scale[:, None, None] + self.bias[:, None, None]).to(x.dtype)

    @torch.no_grad()
    def _remember(self, mean: Tensor, variance: Tensor) -> None:
        assert self.running_mean is not None and self.running_var is not None
        assert self.num_batches_tracked is not None and self.momentum is not None
        self.num_batches_tracked += 1
        self.running_mean.lerp_(mean.to(self.running_mean.dtype), self.momentum)
        self.running_var.lerp_(variance.to(self.running_var.dtype), self.momentum)


class _WithActivation:
    """timm's BatchNorms with what follows them inside."""

    drop: nn.Module
    act: nn.Module

    def forward(self, x: Tensor) -> Tensor:
        """As timm.layers.BatchNormAct2d."""
        return cast(Tensor, self.act(self.drop(super().forward(x))))  # type: ignore[misc]


class _JointWithActivation(_WithActivation, JointBatchNorm2d):
    pass


class _SyncWithActivation(_WithActivation, nn.SyncBatchNorm):
    pass


_KINDS: dict[tuple[bool, bool], type[nn.Module]] = {
    (False, False): JointBatchNorm2d,
    (False, True): _JointWithActivation,
    (True, False): nn.SyncBatchNorm,
    (True, True): _SyncWithActivation,
}


def join_batch_norm(trunk: nn.Module, device: torch.device) -> None:
    """Let every BatchNorm in `trunk` learn the statistics of all processes' pictures.

    Parameters and buffers stay the very same tensors, under the same names.

    Raises:
        TrainingError: the trunk has one of a kind for which that is not known.
    """
    for name, norm in list(trunk.named_modules()):
        if isinstance(norm, nn.modules.batchnorm._BatchNorm):
            activated = {child for child, _ in norm.named_children()} == {"drop", "act"}
            if not isinstance(norm, nn.BatchNorm2d) or not (
                activated or type(norm).forward is nn.BatchNorm2d.forward
            ):
                raise TrainingError(
                    f"several processes cannot learn the statistics of {name}, a "
                    f"{type(norm).__name__}, as one",
                    hint="keep those of the weights (--batch-norm frozen), or train in one process",
                )
            place, _, last = name.rpartition(".")
            joint = _as(_KINDS[device.type == "cuda", activated], norm)
            setattr(trunk.get_submodule(place), last, joint)


def _as(kind: type[nn.Module], norm: nn.BatchNorm2d) -> nn.Module:
    joint = kind(norm.num_features, norm.eps, norm.momentum, norm.affine)
    for name, parameter in norm.named_parameters():
        joint.register_parameter(name, parameter)
    for name, buffer in norm.named_buffers():
        joint.register_buffer(name, buffer)
    for name, child in norm.named_children():
        joint.add_module(name, child)
    return joint.train(norm.training)
