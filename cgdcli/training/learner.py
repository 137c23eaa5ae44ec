"""What learns: network, losses, optimizer and average, one step at a time."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from cgdcli.config import BatchNorm, Precision, TrainConfig
from cgdcli.model.cgd import CGD, CGDOutput, freeze_batch_norm, normalize_pixels
from cgdcli.training.average import WeightAverage
from cgdcli.training.compiling import compiled, compiler_in_words
from cgdcli.training.distributed import ALONE, Processes
from cgdcli.training.drawing import drawing
from cgdcli.training.joint import join, join_batch_norm
from cgdcli.training.objective import Objective, StepLosses
from cgdcli.training.schedule import make_optimizer, set_rates

_LOOKED_AT = 8  # pictures that have to have finite rows: a part of a step's cost, once an epoch


class Learner:
    """A network being trained.

    Args:
        model: on its device.
        steps: of the whole run; the schedule and the average's horizon are shares of it.
        precision: fp32 or bf16, already decided.
        compiled_for: the batch size whose forward pass is compiled, where one is; batches of
            another run as they are. So the bits depend on a batch and on nothing before it.
        processes: that learn together, each from its part of a batch; they hold the same weights.
    """

    def __init__(
        self,
        model: CGD,
        config: TrainConfig,
        *,
        steps: int,
        precision: Precision,
        compiled_for: int | None = None,
        processes: Processes = ALONE,
    ) -> None:
        assert precision is not Precision.auto
        self.model, self.config, self.steps = model, config, steps
        self.processes = processes
        self.device = next(model.parameters()).device
        self.bf16 = precision is Precision.bf16
        if self.bf16:
            model.to(memory_format=torch.channels_last)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(config.seed)
            self.objective = Objective(config, model.config.classes, model.embedding_dim)
        self.objective.to(self.device)
        if not processes.alone and not self._frozen:
            join_batch_norm(model.backbone, self.device)
        self.optimizer = make_optimizer(model, self.objective, config)
        self._leave_unlearned_alone()
        self.average = WeightAverage(model, config.ema, steps) if config.ema else None
        losses = _Losses(model, self.objective, bf16=self.bf16)
        if compiled_for is not None:
            losses.compile_for(len(processes.part(compiled_for)))
        self._pass: nn.Module = losses if processes.alone else _shared(losses)

    def _leave_unlearned_alone(self) -> None:
        """No gradient for what has no rate: it would be no step's, but count in `clip_norm`."""
        learned = {id(parameter) for parameter in self._parameters()}
        for parameter in (*self.model.parameters(), *self.objective.parameters()):
            parameter.requires_grad_(parameter.requires_grad and id(parameter) in learned)

    @property
    def _frozen(self) -> bool:
        c = self.config
        return c.backbone_weights != "none" and c.batch_norm is BatchNorm.frozen

    def to_training(self) -> None:
        """BatchNorm statistics of pretrained weights stay; of random ones there is none to keep.

        (Drawn pictures, resnet18 from scratch: with frozen statistics the embedding collapsed.)
        """
        self.model.train()
        if self._frozen:
            freeze_batch_norm(self.model)

    def step(
        self, pixels: Tensor, labels: Tensor, number: int, sizes: Sequence[int] | None = None
    ) -> Tensor:
        """One optimizer step; `number` of them came before. Returns `StepLosses.figures`.

        Args:
            pixels: uint8 (B, H, W, 3); labels: (B,) int64; of several processes, its part.
            sizes: each process's B, by rank; None to ask them.
        """
        done = number / self.steps
        set_rates(self.optimizer, self.config, done)
        self.objective.begin_step(number, self.steps)
        # Stochastic depth and dropout, for each process its own.
        with drawing((self.config.seed, number, self.processes.rank), self.device):
            losses = self.losses(pixels, labels, resting=done < self.config.resting, sizes=sizes)
        self.optimizer.zero_grad(set_to_none=True)
        torch.autograd.backward(losses.total)
        if self.config.clip_norm:
            torch.nn.utils.clip_grad_norm_(self._parameters(), self.config.clip_norm)
        self.optimizer.step()
        self.model.bound_exponents()
        if self.average is not None and done >= self.config.resting:
            self.average.feed()
        return losses.figures()

    def losses(
        self,
        pixels: Tensor,
        labels: Tensor,
        *,
        resting: bool = False,
        sizes: Sequence[int] | None = None,
    ) -> StepLosses:
        """Forward pass and losses; `resting` leaves the backbone without gradient.

        With several processes: the losses of all their pictures together, the same on each.
        """
        # From pinned memory the copies go on while the host is already at the forward pass.
        pixels = pixels.to(self.device, non_blocking=True)
        sizes = sizes or self.processes.sizes(len(labels))
        labels = join(labels, sizes).to(self.device, non_blocking=True)
        images = normalize_pixels(pixels, self.model.config)
        if self.bf16:
            images = images.to(memory_format=torch.channels_last)
        losses: StepLosses = self._pass(images, labels, sizes, resting)
        return losses

    def judged_model(self) -> CGD:
        """What is judged and kept: the average where there is one, else the network itself."""
        return self.model if self.average is None else self.average.model()

    def gives_numbers(self, pixels: Tensor) -> bool:
        """Whether what was learned is finite, and pictures get finite rows by it, in eval mode.

        Args:
            pixels: uint8 (B, H, W, 3), of which a few are looked at; there may be none.
        """
        learned = all(bool(tensor.isfinite().all()) for tensor in self._parameters())
        kept = {id(model): model for model in (self.model, self.judged_model())}
        few = pixels[:_LOOKED_AT]
        return learned and (
            not len(few) or all(bool(model.embed(few).isfinite().all()) for model in kept.values())
        )

    def rate(self) -> float:
        """The backbone's learning rate of the last step, else its first."""
        return float(self.optimizer.param_groups[0]["lr"])

    def state(self) -> dict[str, Any]:
        """All that a resumed run needs to go on bit for bit."""
        return {
            "model": self.model.state_dict(),
            "objective": self.objective.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "average": self.average.tensors if self.average else {},
        }

    def restore(self, state: dict[str, Any], before: TrainConfig | None = None) -> None:
        """Take back a `state`.

        Args:
            before: the settings that it was reached with; None: these. What the optimizer knows of
                each parameter is taken, its decays are those of now, as from the next step on the
                rates are.
        """
        self.model.load_state_dict(state["model"], strict=True)
        self.objective.load_state_dict(state["objective"], strict=True)
        # In the groups of then, which another weight decay divides otherwise.
        then = make_optimizer(self.model, self.objective, before or self.config)
        then.load_state_dict(state["optimizer"])
        self.optimizer.state.update(then.state)
        # Of a run that was stopped after its last step no other sets them any more.
        for group, was in zip(self.optimizer.param_groups, then.param_groups, strict=False):
            group["lr"] = was["lr"]
        if self.average is not None:
            self.average.tensors = {n: t.to(self.device) for n, t in state["average"].items()}

    def model_bytes(self) -> int:
        """Of the network's tensors, which a checkpoint holds."""
        return _bytes(self.model.state_dict().values())

    def state_bytes(self) -> int:
        """Of a `state` once steps were made: Adam keeps two numbers for each that it changes."""
        models = 1 if self.average is None else 2
        return models * self.model_bytes() + 2 * _bytes(self._parameters())

    def _parameters(self) -> list[Tensor]:
        return [p for group in self.optimizer.param_groups for p in group["params"]]


def _bytes(tensors: Iterable[Tensor]) -> int:
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)


class _Losses(nn.Module):
    """Forward pass and losses as one module, for DistributedDataParallel to wrap."""

    def __init__(self, model: CGD, objective: Objective, *, bf16: bool) -> None:
        super().__init__()
        self.model, self.objective, self.bf16 = model, objective, bf16
        self._compiled_for: int | None = None
        self._compiled: Callable[[Tensor], Tensor] = lambda images: images

    def compile_for(self, count: int) -> None:
        """Compile the backbone for batches of so many pictures of this process."""
        module = compiled(self.model.backbone)

        # Behind a function: as a module it would be a second home of the same parameters.
        def run(images: Tensor) -> Tensor:
            return module(images)

        self._compiled_for, self._compiled = count, run

    def forward(
        self, images: Tensor, labels: Tensor, sizes: Sequence[int], resting: bool
    ) -> StepLosses:
        """Pictures of this process, labels of all."""
        with (
            torch.set_grad_enabled(not resting),
            torch.autocast(images.device.type, dtype=torch.bfloat16, enabled=self.bf16),
        ):
            feature_map = self._feature_map(images, resting)
        embedding, first = self.model.describe(feature_map.float() if self.bf16 else feature_map)
        if len(sizes) > 1:
            both = join(torch.cat([embedding, first], dim=1), sizes)
            embedding, first = both.tensor_split([embedding.shape[1]], dim=1)
        output = CGDOutput(embedding, self.model.classify(first))
        losses: StepLosses = self.objective(output, labels)
        return losses

    def _feature_map(self, images: Tensor, resting: bool) -> Tensor:
        if len(images) != self._compiled_for or resting:
            return cast(Tensor, self.model.backbone(images))
        with compiler_in_words():
            return self._compiled(images)


def _shared(losses: _Losses) -> DistributedDataParallel:
    """The module, its gradients averaged over processes during the backward pass.

    `find_unused_parameters`: a resting backbone and a classifier without weight have no gradient.
    With it the buckets also stay as they are; else they are sorted anew after the first step, and
    a resumed run of three processes or more would add in another order.
    """
    # Where no parameter is ever unused, every process warns of it in three lines.
    device = next(losses.parameters()).device
    losses.register_parameter("unused", nn.Parameter(torch.zeros(1, device=device)))
    return DistributedDataParallel(losses, find_unused_parameters=True, forward_sync_buffers=False)
