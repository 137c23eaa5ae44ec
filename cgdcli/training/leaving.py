"""Signals that end a run, held back until what they would cut in two is done and saved."""

import contextlib
import os
import signal
import threading
from collections.abc import Iterator
from types import FrameType

_HELD_BACK = (signal.SIGINT, signal.SIGTERM)


class Leaving:
    """Whether a signal has come, and what it would have done at once."""

    def __init__(self) -> None:
        self.came: signal.Signals | None = None
        self._before = {number: signal.getsignal(number) for number in _HELD_BACK}

    def note(self, number: int, frame: FrameType | None) -> None:
        """Remember the first; a second one is not to be waited for."""
        if self.came is not None:
            self._deliver(signal.Signals(number), frame)
        self.came = signal.Signals(number)

    def go(self) -> None:
        """Do now what the signal would have done: an exception of whoever handles it, or the end
        of the process. Nothing where none has come."""
        if self.came is not None:
            self._deliver(self.came, None)

    def hold(self) -> None:
        """Take the signals, but for those that are ignored (`nohup`) or not Python's to handle."""
        for number, handler in self._before.items():
            if handler not in (signal.SIG_IGN, None):
                signal.signal(number, self.note)

    def give_back(self) -> None:
        """Whoever had them has them again."""
        for number, handler in self._before.items():
            if handler is not None:
                signal.signal(number, handler)

    def _deliver(self, number: signal.Signals, frame: FrameType | None) -> None:
        handler = self._before[number]
        if callable(handler):
            handler(number, frame)
        else:
            self.give_back()
            os.kill(os.getpid(), number)


@contextlib.contextmanager
def signals_held_back() -> Iterator[Leaving]:
    """Ctrl-C and SIGTERM are noted for the time of it; what came meanwhile is done at its end.

    In another thread than the main one signals are somebody else's business: none comes.
    """
    leaving = Leaving()
    if threading.current_thread() is not threading.main_thread():
        yield leaving
        return
    leaving.hold()
    try:
        yield leaving
    finally:
        leaving.give_back()
    leaving.go()
