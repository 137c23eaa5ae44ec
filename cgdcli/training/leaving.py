"""Signals that end a run, held back until what they would cut in two is done and saved."""

import _thread
import contextlib
import logging
import os
import signal
import threading
import time
from collections.abc import Iterator
from types import FrameType

logger = logging.getLogger("cgdcli")

_HELD_BACK = (signal.SIGINT, signal.SIGTERM)
# Who ends a job signals each of its processes, and a launcher passes on what it was sent itself:
# what comes within so many seconds of the first is the same wish.
SAME_WISH = 1.0


class Leaving:
    """Whether a signal has come, and what it would have done at once.

    Args:
        says: that a signal is waited with, when it comes.
    """

    def __init__(self, *, says: bool = True) -> None:
        self.came: signal.Signals | None = None
        self._came_at, self._says = 0.0, says
        self._before = {number: signal.getsignal(number) for number in _HELD_BACK}
        # In another thread than the main one signals are somebody else's business: none comes.
        self._ours = threading.current_thread() is threading.main_thread()

    def note(self, number: int, frame: FrameType | None) -> None:
        """Remember the first; a second one is not to be waited for."""
        if self.came is None:
            self.came, self._came_at = signal.Signals(number), time.monotonic()
            self._say()
        elif time.monotonic() - self._came_at > SAME_WISH:
            self._deliver(signal.Signals(number), frame)

    def go(self) -> None:
        """Do now what the signal would have done: an exception of whoever handles it, or the end
        of the process. Nothing where none has come."""
        if self.came is not None:
            self._deliver(self.came, None)

    @contextlib.contextmanager
    def let_go(self) -> Iterator[None]:
        """Nothing is held back for the time of it, nor what has come."""
        self.give_back()
        try:
            self.go()
            yield
        finally:
            self.hold()

    def hold(self) -> None:
        """Take the signals, but for those that are ignored (`nohup`) or not Python's to handle."""
        for number, handler in self._before.items() if self._ours else ():
            if handler not in (signal.SIG_IGN, None):
                signal.signal(number, self.note)

    def give_back(self) -> None:
        """Whoever had them has them again."""
        for number, handler in self._before.items() if self._ours else ():
            if handler is not None:
                signal.signal(number, handler)

    def _say(self) -> None:
        """In a thread: who is interrupted may hold the lock of what writes, or of threads."""
        if self.came is not None and self._says:
            words = "%s: the run stops once this step is made and saved; at once if told again"
            _thread.start_new_thread(logger.warning, (words, self.came.name))

    def _deliver(self, number: signal.Signals, frame: FrameType | None) -> None:
        handler = self._before[number]
        if callable(handler):
            handler(number, frame)
        else:
            self.give_back()
            os.kill(os.getpid(), number)


@contextlib.contextmanager
def signals_held_back(*, says: bool = True) -> Iterator[Leaving]:
    """Ctrl-C and SIGTERM are noted for the time of it; who does it looks whether one came."""
    leaving = Leaving(says=says)
    leaving.hold()
    try:
        yield leaving
    finally:
        leaving.give_back()
    leaving.go()
