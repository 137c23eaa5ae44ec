"""Which process this is, by the environment that torchrun sets."""

import pytest

from cgdcli.errors import ConfigError
from cgdcli.launch import Launch, is_launched, launch, local_rank, processes_here, rank

TORCHRUN = {
    "RANK": "5",
    "WORLD_SIZE": "8",
    "LOCAL_RANK": "1",
    "LOCAL_WORLD_SIZE": "4",
    "MASTER_ADDR": "node-a",
    "MASTER_PORT": "29500",
}


@pytest.fixture
def say(monkeypatch):
    """Sets an environment that says just that."""
    for name in TORCHRUN:
        monkeypatch.delenv(name, raising=False)

    def set_all(**values):
        for name, value in values.items():
            monkeypatch.setenv(name, value)

    return set_all


def test_what_torchrun_says(say):
    say(**TORCHRUN)
    assert launch() == Launch(rank=5, world=8, local_rank=1)
    assert (rank(), local_rank(), processes_here()) == (5, 1, 4) and is_launched()


@pytest.mark.parametrize("said", [{}, {"WORLD_SIZE": "1"}, {"RANK": "3", "LOCAL_RANK": "2"}])
def test_a_process_that_was_started_by_itself_is_the_first(say, said):
    say(**said)
    assert launch() == Launch()
    assert (rank(), local_rank(), processes_here()) == (0, 0, 1) and not is_launched()


def test_torchrun_may_start_a_single_process(say):
    say(**TORCHRUN | {"RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "1", "LOCAL_WORLD_SIZE": "1"})
    assert launch() == Launch() and is_launched()


def test_one_process_a_machine_needs_no_local_rank(say):
    say(**{name: TORCHRUN[name] for name in ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")})
    assert launch() == Launch(rank=5, world=8, local_rank=0)


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"MASTER_ADDR": ""}, "MASTER_ADDR missing"),
        ({"RANK": "", "MASTER_PORT": ""}, "RANK and MASTER_PORT missing"),
        ({"RANK": "8"}, "RANK=8"),
        ({"RANK": "-1"}, "RANK=-1"),
        ({"LOCAL_RANK": "one"}, "LOCAL_RANK=one"),
        ({"WORLD_SIZE": "many"}, "WORLD_SIZE=many"),
    ],
)
def test_half_a_launch_is_wrong_usage(say, change, word):
    say(**TORCHRUN | change)
    with pytest.raises(ConfigError, match=word) as caught:
        launch()
    assert "torchrun" in caught.value.hint
