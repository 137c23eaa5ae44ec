"""A run's metrics for TensorBoard (extra `tensorboard`): event files in its folder.

Written record by record and at once, not through a writer with a thread of its own: what fails is
then an error here, and not a traceback on somebody's screen.
"""

import logging
import os
import socket
import time
from pathlib import Path
from typing import Any

from cgdcli.errors import ConfigError
from cgdcli.reports import EpochReport
from cgdcli.training.metrics import metrics_columns, metrics_row

logger = logging.getLogger("cgdcli")

_NO_CURVES = {"epoch", "is_best"}


def check_tensorboard() -> None:
    """Before any work is done.

    Raises:
        ConfigError: the extra is not installed.
    """
    try:
        _proto()
    except ImportError as error:
        raise ConfigError(
            "--tensorboard wants the package tensorboard, which is not installed",
            hint="pip install 'cgdcli[tensorboard]', or leave out --tensorboard",
        ) from error


class Board:
    """Writes one event file. Its first epochs are all so far: TensorBoard then forgets what an
    earlier process wrote of them, so that a resumed run is whole whatever that one lost.

    Args:
        run: its folder.
    """

    def __init__(self, run: Path) -> None:
        name = f"events.out.tfevents.{int(time.time())}.{socket.gethostname()}.{os.getpid()}"
        self.path = run / name
        self._written = 0
        self._is_broken = False

    def write(self, epochs: list[EpochReport]) -> None:
        """Add what is new; a file that cannot be written is a warning and then left alone."""
        if self._is_broken:
            return
        try:
            self._append(epochs)
        except OSError as error:
            self._is_broken = True
            logger.warning(
                "`%s` cannot be written: %s; training goes on without it",
                self.path,
                error.strerror or error,
            )

    def _append(self, epochs: list[EpochReport]) -> None:
        event, record_writer = _proto()
        now, last = time.time(), epochs[-1].train_seconds
        columns = metrics_columns(epochs)
        with self.path.open("ab") as stream:
            records = record_writer(stream)
            if not self._written:
                records.write(event.Event(wall_time=now, file_version="brain.Event:2"))
                start = event.SessionLog(status=event.SessionLog.START)
                records.write(event.Event(wall_time=now, step=0, session_log=start))
            for epoch in epochs[self._written :]:
                values = zip(columns, metrics_row(epoch, columns), strict=True)
                curves = {n: v for n, v in values if v is not None and n not in _NO_CURVES}
                # As if it had been written when it was reached: the time axis is of training.
                reached = now - (last - epoch.train_seconds)
                records.write(_summary(event, epoch.epoch, reached, curves))
        self._written = len(epochs)


def _summary(event: Any, step: int, reached: float, curves: dict[str, float]) -> Any:
    from tensorboard.compat.proto.summary_pb2 import Summary

    values = [Summary.Value(tag=name, simple_value=value) for name, value in curves.items()]
    return event.Event(wall_time=reached, step=step, summary=Summary(value=values))


class _Records:
    """Events as the records of a file."""

    def __init__(self, stream: Any) -> None:
        from tensorboard.summary.writer.record_writer import RecordWriter

        self._writer = RecordWriter(stream)

    def write(self, event: Any) -> None:
        self._writer.write(event.SerializeToString())


def _proto() -> tuple[Any, type[_Records]]:
    from tensorboard.compat.proto import event_pb2

    return event_pb2, _Records
