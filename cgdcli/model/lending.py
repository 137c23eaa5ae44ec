"""A live model lent to a measurement: moved and in eval mode meanwhile, afterwards as it was."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from cgdcli.model.cgd import CGD


@contextmanager
def lent(model: CGD, device: torch.device) -> Iterator[CGD]:
    """The model on `device`, in eval mode; device and mode of every module come back."""
    home = next(model.parameters()).device
    modes = {module: module.training for module in model.modules()}
    model.to(device).eval()
    try:
        yield model
    finally:
        model.to(home)
        for module, training in modes.items():
            module.training = training
