"""Float16 rows as float32 by PyTorch, for processes that have it loaded."""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch.utils.dlpack import from_dlpack

# PyTorch parts a longer array among threads; who scans has a thread for each core already.
_VALUES_WITHOUT_THREADS = 32_768


def widen_by_torch(half: NDArray[np.float16], wide: NDArray[Any]) -> None:
    """Write float16 (B, D) as float32 (B, D), contiguous: by the processor's own instruction."""
    # dlpack, because a map is read-only: from_numpy warns of that, whatever is done with it.
    source, target = from_dlpack(half).flatten(), from_dlpack(wide).flatten()
    for first in range(0, len(source), _VALUES_WITHOUT_THREADS):
        part = slice(first, first + _VALUES_WITHOUT_THREADS)
        target[part].copy_(source[part])
