"""Reading pictures ahead in threads while the network computes.

Threads, not processes: Pillow decodes and resizes without the interpreter's lock, and threads
start at once, share memory and die with the program on every system.
"""

from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

from cgdcli.launch import cores

Item = TypeVar("Item")
Result = TypeVar("Result")

READ_AHEAD_PER_WORKER = 8


def worker_count(workers: int) -> int:
    """`workers`, or for 0 the number of cores this process may use, at most 8.

    Processes that torchrun started on one machine share its cores.
    """
    if workers:
        return workers
    return min(8, cores())


def read_ahead(
    function: Callable[[Item], Result], items: Iterable[Item], *, workers: int, ahead: int = 0
) -> Iterator[Result]:
    """Yield `function(item)` for every item, in order, computed in threads ahead of the caller.

    Args:
        workers: threads, at least 1.
        ahead: items under way at most; 0 for 8 a worker. Memory is bounded by it.

    Raises:
        Whatever `function` raised, at that item's turn; what was under way is then cancelled.
    """
    limit = ahead or READ_AHEAD_PER_WORKER * workers
    pending: deque[Future[Result]] = deque()
    with ThreadPoolExecutor(workers, thread_name_prefix="cgd-read") as pool:
        try:
            for item in items:
                pending.append(pool.submit(function, item))
                if len(pending) >= limit:
                    yield pending.popleft().result()
            while pending:
                yield pending.popleft().result()
        finally:
            for future in pending:
                future.cancel()


def one_ahead(items: Iterator[Item]) -> Iterator[Item]:
    """The same items, each made in a thread while the caller is busy with the one before.

    Raises:
        Whatever making an item raised, at its turn.
    """
    end = object()
    with ThreadPoolExecutor(1, thread_name_prefix="cgd-ahead") as pool:
        coming = pool.submit(next, items, end)
        try:
            while True:
                item = coming.result()
                if item is end:
                    return
                coming = pool.submit(next, items, end)
                yield item  # type: ignore[misc]
        finally:
            coming.cancel()
            pool.shutdown()  # what is under way ends before its maker is closed
            if isinstance(items, Generator):
                items.close()


def batched(items: Iterable[Item], size: int) -> Iterator[list[Item]]:
    """Lists of `size` items in order, the last one shorter."""
    batch: list[Item] = []
    for item in items:
        batch.append(item)
        if len(batch) == size:
            yield batch
            batch = []
    if batch:
        yield batch
