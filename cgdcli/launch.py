"""Which process this is of those that a launcher (torchrun) started together."""

import os
from dataclasses import dataclass

from cgdcli.errors import ConfigError


@dataclass(frozen=True)
class Launch:
    """Process `rank` of `world`; on its machine it is `local_rank`."""

    rank: int = 0
    world: int = 1
    local_rank: int = 0


def launch() -> Launch:
    """What torchrun, or a cluster's operator, says in the environment; alone where it is silent.

    Raises:
        ConfigError: it says that there are several processes, and not which one this is.
    """
    world = os.environ.get("WORLD_SIZE", "1")
    if world == "1":
        return Launch()
    names = ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
    missing = [name for name in names if not os.environ.get(name)]
    rank, here = os.environ.get("RANK", ""), os.environ.get("LOCAL_RANK", "0")
    numbers = all(text.isdigit() for text in (rank, world, here))
    if missing or not numbers or int(rank) >= int(world):
        said = f"{' and '.join(missing)} missing" if missing else f"RANK={rank}, LOCAL_RANK={here}"
        raise ConfigError(
            f"WORLD_SIZE={world} asks for several processes, but the environment does not say "
            f"which one this is: {said}",
            hint="start them with torchrun --nproc-per-node N -m cgdcli ..., or unset WORLD_SIZE "
            "to work in one process",
        )
    return Launch(int(rank), int(world), int(here))


def is_launched() -> bool:
    """Whether a launcher started this process, be it the only one, and looks at its exit code."""
    return "RANK" in os.environ and "WORLD_SIZE" in os.environ


def rank() -> int:
    """The number of this process; 0 alone, and where the environment makes no sense."""
    return _number("RANK") if _number("WORLD_SIZE") > 1 else 0


def local_rank() -> int:
    """The same among the processes of this machine."""
    return _number("LOCAL_RANK") if _number("WORLD_SIZE") > 1 else 0


def processes_here() -> int:
    """How many processes of the launch share this machine's cores and memory; at least 1."""
    return max(1, _number("LOCAL_WORLD_SIZE"))


def cores() -> int:
    """The cores that this process may use; processes that torchrun started here share them."""
    available = getattr(os, "sched_getaffinity", None)
    count = len(available(0)) if available else os.cpu_count() or 1
    return max(1, count // processes_here())


def _number(name: str) -> int:
    text = os.environ.get(name, "0")
    return int(text) if text.isdigit() else 0
