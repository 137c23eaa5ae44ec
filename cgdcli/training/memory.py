"""How many pictures of a step fit the memory, and what to say where they do not."""

import contextlib
import copy
import gc
from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from cgdcli.config import Precision, TrainConfig
from cgdcli.errors import TrainingError
from cgdcli.images.cache import free_memory
from cgdcli.launch import processes_here
from cgdcli.model.cgd import CGD
from cgdcli.training.learner import Learner

# On a CPU: of the free memory the steps may take so much; pictures and the system want some.
_SHARE = 0.5
# Measured on ResNet-18 and -50 at 112 and 224 px, fp32 and bf16: a step's peak is up to 1.1 times
# what its forward pass saves for the backward one, and four times the weights (gradients, Adam's
# two numbers, the average).
_PEAK, _WEIGHTS = 1.3, 4
_SMALL = 8
# What an allocator says of a CPU's memory is a RuntimeError of no class of its own.
_NO_MEMORY = ("can't allocate memory", "not enough memory", "out of memory")


def largest_batch(model: CGD, config: TrainConfig, shares: int = 1) -> int:
    """The recipe's batch size, or the largest multiple of `per_class` below that fits the memory.

    On CUDA steps are tried, on a CPU one forward pass is measured: there what is too large is no
    error, but the end of the process or of the machine's patience. Precision `auto` is taken for
    fp32, which its measurement runs, too.

    Args:
        model: on its device; it stays as it is.
        shares: processes that each take so much of a batch; this one's memory is looked at.

    Raises:
        TrainingError: not even two classes fit.
    """
    wanted = config.recipe_batch_size
    fits = _step_fits if next(model.parameters()).device.type == "cuda" else _step_would_fit
    least = min(wanted, 2 * config.per_class)
    sizes = [*range(least, wanted, config.per_class), wanted]
    found = _last(sizes, lambda size: fits(model, config, -(-size // shares)))
    if found is None:
        raise TrainingError(
            f"not even a batch of {least} pictures at {config.image_size} px fits the memory",
            hint="try a smaller --image-size or --backbone, or --precision bf16",
        )
    return found


def batch_words(config: TrainConfig, size: int) -> str:
    """What `auto` came to."""
    if size == config.recipe_batch_size:
        return f"batch size {size}, the recipe's: it fits the memory"
    return f"batch size {size}: of the recipe's {config.recipe_batch_size} no more fit the memory"


def random_batch(config: TrainConfig, places: range, classes: int) -> tuple[Tensor, Tensor]:
    """Noise as uint8 (B, H, W, 3) and labels (B,) of these places of a batch; always the same."""
    generator = torch.Generator().manual_seed(0)
    shape = (len(places), config.image_size, config.image_size, 3)
    pixels = torch.randint(0, 256, shape, generator=generator).byte()
    return pixels, torch.tensor(places) % max(2, classes)


@contextlib.contextmanager
def memory_in_words(size: int, device: torch.device, go_on: str) -> Iterator[None]:
    """Turn an allocation that failed into what to do about it.

    Args:
        size: pictures of a step.
        go_on: the command that goes on with the run; empty where there is none to go on with.

    Raises:
        TrainingError: in place of the allocator's error.
    """
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        smaller = f"--batch-size {max(2, size // 2)}"
        hint = f"{go_on} {smaller} --force" if go_on else f"try {smaller}, or --batch-size auto"
        raise TrainingError(
            f"the memory of {_called(device)} is full: a step of {size} pictures does not fit",
            hint=f"{hint}; a smaller --image-size and --precision bf16 take less, too",
        ) from error


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an allocation failed, on whatever device."""
    known = isinstance(error, MemoryError | torch.OutOfMemoryError)
    return known or any(words in str(error) for words in _NO_MEMORY)


def _called(device: torch.device) -> str:
    return "this machine" if device.type == "cpu" else f"the GPU ({device})"


def _last(sizes: list[int], fits: Callable[[int], bool]) -> int | None:
    """The last of rising `sizes` that fits; the very last is tried first."""
    if fits(sizes[-1]):
        return sizes[-1]
    low, high = -1, len(sizes) - 1  # low fits (or is none), high does not
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if fits(sizes[middle]) else (low, middle)
    return sizes[low] if low >= 0 else None


def _learner(model: CGD, config: TrainConfig) -> Learner:
    bf16 = config.precision is Precision.bf16
    precision = Precision.bf16 if bf16 else Precision.fp32
    learner = Learner(copy.deepcopy(model), config, steps=100, precision=precision)
    learner.to_training()
    return learner


def _step_fits(model: CGD, config: TrainConfig, size: int) -> bool:
    """Two whole steps: the second with the optimizer's memory beside it."""
    learner = None
    try:
        learner = _learner(model, config)
        for number in (98, 99):  # the backbone no longer rests
            learner.step(*random_batch(config, range(size), model.config.classes), number)
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        return False
    else:
        return True
    finally:
        del learner
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()


def _step_would_fit(model: CGD, config: TrainConfig, size: int) -> bool:
    """By what a few pictures save for the backward pass."""
    learner = _learner(model, config)
    return step_bytes(learner, config, size) <= _SHARE * free_memory() / processes_here()


def step_bytes(learner: Learner, config: TrainConfig, size: int) -> float:
    """Bytes that a step of so many pictures takes at its peak, beside the network itself."""
    own = {tensor.untyped_storage().data_ptr() for tensor in learner.model.state_dict().values()}
    saved: dict[int, int] = {}

    def note(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            saved[storage.data_ptr()] = storage.nbytes()
        return tensor

    count = min(_SMALL, size)
    batch = random_batch(config, range(count), learner.model.config.classes)
    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        losses = learner.losses(*batch)
    bytes_each = sum(saved.values()) / count
    del losses
    return _PEAK * size * bytes_each + _WEIGHTS * learner.model_bytes()
