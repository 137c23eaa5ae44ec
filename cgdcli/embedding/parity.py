"""Whether a reduced precision finds what float32 finds, on a sample of the user's own pictures."""

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Self

import numpy as np

from cgdcli.config import EmbedConfig, Precision
from cgdcli.engines import Engine, Rows
from cgdcli.errors import MismatchError
from cgdcli.index.exact import nearest
from cgdcli.streaming import embed_files

logger = logging.getLogger("cgdcli")

SAMPLE = 200
# Of the sample, so many must have the same nearest neighbour.
NEIGHBOURS_AGREE = 0.95
# Fewer say nothing: one of them would be a twentieth.
FEWEST = 20
_FP32_IF_AUTO = {Precision.auto: Precision.fp32}
_SHARES = ("cosine_min", "cosine_mean", "neighbours")


@dataclass(frozen=True)
class Parity:
    """A reduced precision beside fp32.

    Attributes:
        cosine_min, cosine_mean: of the two rows of each picture.
        neighbours: share of pictures with the same nearest other picture of the sample.
    """

    pictures: int
    cosine_min: float
    cosine_mean: float
    neighbours: float

    def __str__(self) -> str:
        return (
            f"on {self.pictures} of the pictures the nearest neighbour is fp32's for "
            f"{100 * self.neighbours:.1f} %, cosine {self.cosine_mean:.5f} (least "
            f"{self.cosine_min:.5f})"
        )

    def to_dict(self) -> dict[str, float]:
        """For an index's header."""
        return asdict(self)

    @classmethod
    def from_dict(cls, figures: dict[str, float]) -> Self:
        """The inverse."""
        return cls(int(figures["pictures"]), *(figures[name] for name in _SHARES))


def chosen_precision(
    make: Callable[[Precision], Engine],
    files: Sequence[Path],
    config: EmbedConfig,
    before: tuple[str, dict[str, float] | None] | None = None,
) -> tuple[Precision, Parity | None]:
    """The precision asked for, once it has shown that it agrees with fp32.

    Args:
        make: the engine of a precision.
        before: precision and figures of the index that is refreshed, of the same model: what was
            shown then is not asked again.

    Raises:
        MismatchError: it does not; of `auto`, fp32 is taken instead.
    """
    if before is not None and config.precision in (Precision.auto, before[0]):
        precision, figures = before
        if figures is not None:
            return Precision(precision), Parity.from_dict(figures)
        if precision == Precision.fp32:
            return Precision.fp32, None
    if not files or config.precision is Precision.fp32:
        # A part of an index without pictures has nothing to compare.
        return _FP32_IF_AUTO.get(config.precision, config.precision), None
    exact, reduced = make(Precision.fp32), make(Precision.bf16)
    asked = config.precision is not Precision.auto
    sample = [files[i] for i in np.unique(np.linspace(0, len(files) - 1, SAMPLE).astype(int))]
    (a, fp32_seconds), (b, seconds) = (_rows(e, sample, config) for e in (exact, reduced))
    if len(a) < FEWEST:
        if asked:
            raise MismatchError(
                f"--precision {config.precision} is taken once it agrees with fp32 on a sample, "
                f"and {len(a)} readable pictures are too few to tell; {FEWEST} are wanted",
                hint="leave it out: so few are embedded in no time",
            )
        return Precision.fp32, None
    parity = compare_rows(a, b)
    if parity.neighbours < NEIGHBOURS_AGREE and asked:
        raise MismatchError(
            f"--precision {config.precision} does not find what fp32 finds: {parity}; at least "
            f"{100 * NEIGHBOURS_AGREE:.0f} % are wanted",
            hint="leave it out for fp32, or --precision auto for the fastest that does",
        )
    if not asked and (parity.neighbours < NEIGHBOURS_AGREE or seconds >= fp32_seconds):
        logger.info(
            "precision fp32: bf16 takes %.2f of its time; %s", seconds / fp32_seconds, parity
        )
        return Precision.fp32, None
    logger.info("precision bf16, %.1f times as fast: %s", fp32_seconds / seconds, parity)
    return Precision.bf16, parity


def compare_rows(exact: Rows, reduced: Rows) -> Parity:
    """How rows (N, D) of the same pictures agree; both unit."""
    cosines = np.vecdot(exact.astype(np.float64), reduced.astype(np.float64))
    own = [{row} for row in range(len(exact))]
    (_, a), (_, b) = (nearest(rows, rows, 1, exclude=own) for rows in (exact, reduced))
    return Parity(len(exact), float(cosines.min()), float(cosines.mean()), float((a == b).mean()))


def _rows(engine: Engine, files: Sequence[Path], config: EmbedConfig) -> tuple[Rows, float]:
    """Rows of the readable ones, and the seconds they took."""
    size = config.pass_size(on_cpu=engine.on_cpu, filled=True)
    started = time.monotonic()
    batches = list(
        embed_files(
            engine,
            files,
            batch_size=size,
            workers=config.workers,
            filled=True,
            exact_decode=config.exact_decode,
        )
    )
    rows = [batch.rows for batch in batches if len(batch.rows)]
    empty = np.empty((0, 0), np.float32)
    return np.concatenate(rows) if rows else empty, time.monotonic() - started
