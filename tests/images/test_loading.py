"""Reading ahead: order kept, never more under way than allowed, errors at their turn."""

import threading
import time

import pytest

from cgdcli import launch
from cgdcli.images.loading import (
    READ_AHEAD_PER_WORKER,
    batched,
    one_ahead,
    read_ahead,
    worker_count,
)


def test_order_is_kept_when_later_items_are_faster():
    def slow_first(item):
        time.sleep(0.02 if item % 4 == 0 else 0)
        return item * item

    assert list(read_ahead(slow_first, range(40), workers=4)) == [i * i for i in range(40)]


@pytest.mark.parametrize(("workers", "ahead"), [(1, 0), (2, 3), (3, 1), (2, 0)])
def test_no_more_is_read_ahead_than_allowed(workers, ahead):
    taken = []

    def items():
        for item in range(200):
            taken.append(item)
            yield item

    limit = ahead or READ_AHEAD_PER_WORKER * workers
    for given, _ in enumerate(read_ahead(lambda item: item, items(), workers=workers, ahead=ahead)):
        assert len(taken) - given <= limit
    assert len(taken) == 200


def test_items_are_computed_at_the_same_time():
    meeting = threading.Barrier(3, timeout=20)
    assert len(list(read_ahead(lambda _: meeting.wait(), range(3), workers=3))) == 3


def test_error_comes_at_its_turn_after_the_results_before_it():
    def fail_at_five(item):
        if item == 5:
            raise LookupError("five")
        return item

    seen = []
    with pytest.raises(LookupError, match="five"):
        for result in read_ahead(fail_at_five, range(1000), workers=3):
            seen.append(result)
    assert seen == [0, 1, 2, 3, 4]


def test_error_of_the_items_themselves_is_raised():
    def items():
        yield 1
        raise RuntimeError("no more")

    with pytest.raises(RuntimeError, match="no more"):
        list(read_ahead(lambda item: item, items(), workers=1))


def test_what_waits_is_cancelled_after_an_error():
    called = []

    def fail_first(item):
        called.append(item)
        time.sleep(0.01)
        if item == 0:
            raise LookupError
        return item

    with pytest.raises(LookupError):
        list(read_ahead(fail_first, range(100), workers=1, ahead=50))
    assert len(called) < 10


def test_leaving_early_ends_the_threads():
    reads = read_ahead(lambda item: item, range(1000), workers=2)
    assert next(reads) == 0
    reads.close()
    assert not [t for t in threading.enumerate() if t.name.startswith("cgd-read")]


def test_nothing_in_nothing_out():
    assert list(read_ahead(lambda item: item, [], workers=2)) == []


@pytest.mark.parametrize("count", [0, 1, 3, 4, 5, 8])
def test_batches_are_full_but_the_last(count):
    batches = list(batched(range(count), 4))
    assert [item for batch in batches for item in batch] == list(range(count))
    assert all(len(batch) == 4 for batch in batches[:-1])
    assert all(0 < len(batch) <= 4 for batch in batches)


def test_workers_are_as_many_as_asked_or_one_to_eight():
    assert worker_count(13) == 13
    assert 1 <= worker_count(0) <= 8


def test_one_is_made_while_the_one_before_is_used():
    made = []

    def items():
        for item in range(5):
            made.append(item)
            yield item

    seen = []
    for item in one_ahead(items()):
        deadline = time.monotonic() + 20
        while len(made) < min(5, item + 2) and time.monotonic() < deadline:
            time.sleep(0.001)
        seen.append((item, len(made)))
    assert seen == [(0, 2), (1, 3), (2, 4), (3, 5), (4, 5)]


def test_an_error_ahead_comes_at_its_turn():
    def items():
        yield 1
        raise LookupError("second")

    ahead = one_ahead(items())
    assert next(ahead) == 1
    with pytest.raises(LookupError, match="second"):
        next(ahead)


def test_what_is_left_early_is_closed():
    closed = []

    def items():
        try:
            yield from range(100)
        finally:
            closed.append(threading.current_thread().name)

    ahead = one_ahead(items())
    assert next(ahead) == 0
    ahead.close()
    assert closed and threading.active_count() < 20


@pytest.mark.parametrize(("processes", "workers"), [(1, 8), (2, 6), (5, 2), (1000, 1)])
def test_processes_of_one_machine_share_its_cores(monkeypatch, processes, workers):
    monkeypatch.setattr(launch.os, "sched_getaffinity", lambda _: range(12), raising=False)
    monkeypatch.setenv("LOCAL_WORLD_SIZE", str(processes))
    assert (worker_count(0), worker_count(3)) == (workers, 3)
