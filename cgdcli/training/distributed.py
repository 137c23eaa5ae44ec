"""Several processes that train one run together, started by torchrun; with one, nothing happens.

Every process holds the whole network, reads its part of each batch and embeds its part of each
table; the first one alone writes and judges. A function here is called by all of them, in the same
order.
"""

import contextlib
import functools
import itertools
import socket
import time
from collections.abc import Callable, Iterator
from typing import TypeVar, cast

import torch
import torch.distributed as dist
from torch.distributed.distributed_c10d import PrefixStore, Store
from torch.distributed.rendezvous import rendezvous

from cgdcli.errors import CGDError, ConfigError, TrainingError
from cgdcli.launch import Launch, launch, local_rank

Value = TypeVar("Value")

# A process whose neighbour has gone waits so long for the signal that ends all: torchrun sends it
# within a second, and Ctrl-C reaches processes one after the other.
_SECONDS_TO_A_SIGNAL = 3.0


class Processes:
    """The processes of a run, as one of them sees them.

    Attributes:
        rank, size: this one's number, and how many there are.
        first: whether it is the one that writes and judges.
    """

    def __init__(self, launched: Launch) -> None:
        self.rank, self.size, self._local_rank = launched.rank, launched.world, launched.local_rank
        self.first, self.alone = self.rank == 0, self.size == 1

    @property
    def notes(self) -> tuple[str, ...]:
        """What a person should know of them, in words."""
        if self.alone:
            return ()
        return (f"{self.size} processes, each with its share of every step's pictures",)

    def part(self, count: int) -> range:
        """This process's places of `count`: in order of rank they are all, as even as can be."""
        return range(count * self.rank // self.size, count * (self.rank + 1) // self.size)

    def gather(self, value: Value) -> list[Value]:
        """The value of every process, by rank; anything that can be pickled."""
        if self.alone:
            return [value]
        values: list[Value | None] = [None] * self.size
        dist.all_gather_object(values, value)
        return values  # type: ignore[return-value]

    def gather_on_first(self, value: Value) -> list[Value]:
        """The same on the first process alone; empty on the others."""
        if self.alone:
            return [value]
        values: list[Value | None] | None = [None] * self.size if self.first else None
        dist.gather_object(value, values, dst=0)
        return values or []  # type: ignore[return-value]

    def together(self, do: Callable[[], Value]) -> Value:
        """What this process's `do` gives; where it fails on one, all of them fail alike.

        Raises:
            CGDError: the failure of the lowest rank that had one, `everywhere` set.
        """
        if self.alone:
            return do()
        value, failure = None, None
        try:
            value = do()
        except CGDError as error:
            failure = error
        for rank, (what, host) in enumerate(self.gather((failure, socket.gethostname()))):
            if what is not None:
                raise self._everywhere(what, rank, host) from failure
        return value  # type: ignore[return-value]

    def on_first(self, do: Callable[[], Value]) -> Value:
        """What `do` gives on the first process, which alone calls it; its failure is everyone's."""
        if self.alone:
            return do()
        answer: list[object] = [None, None]
        if self.first:
            try:
                answer[0] = do()
            except CGDError as error:
                answer[1] = error
        dist.broadcast_object_list(answer, src=0)
        value, failure = answer
        if isinstance(failure, CGDError):
            raise self._everywhere(failure, 0, "")
        return value  # type: ignore[return-value]

    def spread(self, module: torch.nn.Module) -> None:
        """Give every process the first one's weights and statistics."""
        for tensor in () if self.alone else module.state_dict().values():
            dist.broadcast(tensor, src=0)

    def sizes(self, count: int) -> tuple[int, ...]:
        """The `count` of every process, by rank."""
        if self.alone:
            return (count,)
        counts = torch.zeros(self.size, dtype=torch.int64)
        counts[self.rank] = count
        dist.all_reduce(counts)
        return tuple(counts.tolist())

    def most(self, value: int) -> int:
        """The largest `value` of all processes."""
        if self.alone:
            return value
        largest = torch.tensor(value)
        dist.all_reduce(largest, dist.ReduceOp.MAX)
        return int(largest)

    def own_device(self, device: torch.device) -> torch.device:
        """The device of this process: of several GPUs in a machine, each takes one.

        Raises:
            ConfigError: a machine has fewer of them than processes, or not all compute on one kind.
        """
        if self.alone:
            return device
        kinds = sorted(set(self.gather(device.type)))
        if len(kinds) > 1:
            raise self.agreed(
                ConfigError(
                    f"the processes would compute on different devices: {', '.join(kinds)}",
                    hint="say which for all of them: --device cpu, or --device cuda",
                )
            )
        if device.type == "cuda":
            self.together(lambda: take_gpu(self._local_rank))
        return device

    def agreed(self, error: CGDError) -> CGDError:
        """A failure that every process finds by itself, as it follows from what all of them have:
        marked, so that it is said once."""
        error.everywhere = not self.alone
        return error

    def _everywhere(self, error: CGDError, rank: int, host: str) -> CGDError:
        where = f" (process {rank} of {self.size}, on {host})" if rank else ""
        return self.agreed(type(error)(error.what + where, hint=error.hint))


def take_gpu(local_rank: int) -> None:
    """Make the GPU of that number this process's own: `cuda` is it from now on.

    Raises:
        ConfigError: the machine has fewer.
    """
    count = torch.cuda.device_count()
    if local_rank >= count:
        raise ConfigError(
            f"process {local_rank} of this machine has no GPU of its own: there "
            f"{'is' if count == 1 else 'are'} {count}",
            hint=f"torchrun --nproc-per-node {count}, or --device cpu",
        )
    torch.cuda.set_device(local_rank)


ALONE = Processes(Launch())
_RUNS = itertools.count()


@contextlib.contextmanager
def joined() -> Iterator[Processes]:
    """The processes that were launched together, joined for the time of a run.

    A program that has joined them itself is taken at its word; its group must serve the CPU, too.

    Raises:
        TrainingError: they do not find each other, or one of them ends in the middle.
    """
    own = not dist.is_initialized()
    launched = launch() if own else Launch(dist.get_rank(), dist.get_world_size(), local_rank())
    if launched.world == 1:
        yield ALONE
        return
    if own:
        _join(launched)
    healthy = False
    try:
        yield Processes(launched)
        healthy = True
    except CGDError as error:
        healthy = error.everywhere
        raise
    except RuntimeError as error:
        if not _is_lost(error):
            raise
        time.sleep(_SECONDS_TO_A_SIGNAL)
        raise _gone() from error
    finally:
        # A GPU's group may wait for ever for a process that has gone; the end of this one ends it.
        if own and (healthy or not torch.cuda.is_available()):
            dist.destroy_process_group()


@functools.cache
def meeting_point(rank: int, world: int) -> Store:
    """One for all runs of a process: a second one at the same port might still be answered by the
    first, of a process that is about to close it."""
    store, _, _ = next(rendezvous("env://", rank, world))
    return cast(Store, store)


def _join(launched: Launch) -> None:
    # Both, whatever the device: what is counted and said goes by the CPU.
    backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
    try:
        store = PrefixStore(f"run {next(_RUNS)}", meeting_point(launched.rank, launched.world))
        dist.init_process_group(backend, store=store, rank=launched.rank, world_size=launched.world)
    except (RuntimeError, ValueError) as error:
        raise TrainingError(
            f"the {launched.world} processes do not find each other: {str(error).splitlines()[0]}",
            hint="check that MASTER_ADDR and MASTER_PORT (torchrun --rdzv-endpoint) can be reached "
            "from every machine; of several networks GLOO_SOCKET_IFNAME names the one to take",
        ) from error


def _is_lost(error: RuntimeError) -> bool:
    """Whether it is the network's word for a process that is no longer there."""
    return isinstance(error, dist.DistError) or "gloo" in str(error).lower()


def _gone() -> CGDError:
    error = TrainingError(
        "another process of this run has ended",
        hint="its own message, if it had time for one, says why; then go on with --resume",
    )
    error.everywhere = True
    return error
