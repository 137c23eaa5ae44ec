"""What a run says of the time it still takes."""

import pytest

from cgdcli.training.reporting import share_left


@pytest.mark.parametrize("now", [10, 20, 50, 99])
def test_a_warm_phase_does_not_promise_an_early_end(now):
    """A run of 100 steps, of which the first 20 take a second, the others three."""
    seconds = [1] * 20 + [3] * 80
    first = now - 10
    spent, left = sum(seconds[first:now]), sum(seconds[now:])
    assert spent * share_left(first, now, 100, 0.2) == pytest.approx(left)


def test_nothing_is_left_at_the_end():
    assert share_left(80, 100, 100, 0.05) == 0
    assert share_left(0, 10, 100, 0) == pytest.approx(9)
