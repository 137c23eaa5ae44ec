"""Random numbers of a step: drawn from the seed and the step alone, the same after a resume."""

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch


@contextmanager
def drawing(seeds: tuple[int, ...], device: torch.device) -> Iterator[None]:
    """Within it PyTorch draws by these numbers, on the CPU and on `device`; after it, as before."""
    devices = [device] if device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices):
        torch.manual_seed(int(np.random.SeedSequence(seeds).generate_state(1)[0]))
        yield
