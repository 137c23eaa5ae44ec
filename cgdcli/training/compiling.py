"""torch.compile, where it is asked for."""

import contextlib
from collections.abc import Callable, Iterator
from typing import cast

import torch
from torch import Tensor, nn

from cgdcli.errors import TrainingError


def compiled(module: nn.Module) -> Callable[[Tensor], Tensor]:
    """The module's forward pass, compiled at its first call; the module keeps its names."""
    # Not dynamic: a kernel for any batch size would be another once a second size has come.
    return cast(Callable[[Tensor], Tensor], torch.compile(module, dynamic=False))


@contextlib.contextmanager
def compiler_in_words() -> Iterator[None]:
    """Turn what torch.compile cannot do into an error with a hint.

    Raises:
        TrainingError: no compiler, or the compiler failed.
    """
    from torch._dynamo.exc import TorchDynamoException  # seconds: only where it is needed

    try:
        yield
    except (TorchDynamoException, RuntimeError) as error:
        text = str(error)
        if not isinstance(error, TorchDynamoException) and "ompiler" not in text:
            raise
        first = next((line for line in text.splitlines() if line.strip()), type(error).__name__)
        raise TrainingError(
            f"--compile: torch.compile does not work here: {first}",
            hint="install a C++ compiler and Python's headers (Debian: apt-get install g++ "
            "python3-dev), or leave out --compile",
        ) from error
