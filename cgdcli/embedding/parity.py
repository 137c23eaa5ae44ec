"""Whether a reduced precision finds what float32 finds, on a sample of the user's own pictures."""

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Self

import numpy as np

from cgdcli.config import EmbedConfig, EmbedPrecision
from cgdcli.engines import Engine, Rows
from cgdcli.errors import CheckpointError, MismatchError
from cgdcli.index.exact import nearest
from cgdcli.streaming import embed_files

logger = logging.getLogger("cgdcli")

SAMPLE = 200
# Further pictures that int8 is calibrated on; 300 give what 64 give (NN .84 and .83, 400 others).
CALIBRATION = 100
# With both, every third of the pictures taken calibrates, and the others compare.
EVERY = (SAMPLE + CALIBRATION) // CALIBRATION
# Pictures a turn, a multiple of what a pass has.
TURN = 40
# Of the sample, so many must have the same nearest neighbour as in fp32 for `auto` to choose.
NEIGHBOURS_AGREE = 0.95
# ... and for a precision that is asked for by name. Who asks for int8 gives something away: the
# neighbours that change are mostly near ties (Recall@1 of labels moved less than its error).
WANTED = {EmbedPrecision.bf16: NEIGHBOURS_AGREE, EmbedPrecision.int8: 0.80}
# Fewer say nothing: one of them would be a twentieth.
FEWEST = 20
_FP32_IF_AUTO = {EmbedPrecision.auto: EmbedPrecision.fp32}
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


def samples(files: Sequence[Path], *, calibrates: bool) -> tuple[list[Path], list[Path]]:
    """Pictures to compare precisions on, and others to calibrate int8 on; both spread over all.

    Args:
        calibrates: whether any are wanted for the latter.
    """
    if not files:
        return [], []
    wanted = SAMPLE + (CALIBRATION if calibrates else 0)
    spread = [files[i] for i in np.unique(np.linspace(0, len(files) - 1, wanted).astype(int))]
    if not calibrates:
        return spread, []
    calibration = spread[1::EVERY]
    return [file for i, file in enumerate(spread) if i % EVERY != 1], calibration


def chosen_precision(
    make: Callable[[EmbedPrecision], Engine],
    compared: Sequence[Path],
    config: EmbedConfig,
    candidates: Sequence[EmbedPrecision],
    before: tuple[str, dict[str, float] | None] | None = None,
) -> tuple[EmbedPrecision, Parity | None]:
    """The precision asked for, once it has shown that it agrees with fp32.

    Args:
        make: the engine of a precision; CheckpointError where there is none.
        compared: pictures to show it on.
        candidates: what `auto` chooses from, beside fp32.
        before: precision and figures of the index that is refreshed, of the same model: what was
            shown then is not asked again.

    Raises:
        MismatchError: it does not; of `auto`, fp32 is taken instead.
    """
    if before is not None and config.precision in (EmbedPrecision.auto, before[0]):
        precision, figures = before
        if figures is not None:
            return EmbedPrecision(precision), Parity.from_dict(figures)
        if precision == EmbedPrecision.fp32:
            return EmbedPrecision.fp32, None
    left = candidates if config.precision is EmbedPrecision.auto else [config.precision]
    if not compared or not {*left} - {EmbedPrecision.fp32}:
        # A part of an index without pictures has nothing to compare.
        return _FP32_IF_AUTO.get(config.precision, config.precision), None
    asked = config.precision is not EmbedPrecision.auto
    engines = {EmbedPrecision.fp32: make(EmbedPrecision.fp32)}
    for precision in left:
        try:
            engines[precision] = make(precision)
        except CheckpointError as error:
            if asked:
                raise
            logger.info("precision %s is left out: %s", precision, error.what)
    rows, seconds = _in_turns(engines, compared, config)
    exact = rows.pop(EmbedPrecision.fp32)
    if len(exact) < FEWEST:
        if asked:
            raise MismatchError(
                f"--precision {config.precision} is taken once it agrees with fp32 on a sample, "
                f"and {len(exact)} readable pictures are too few to tell; {FEWEST} are wanted",
                hint="leave it out: so few are embedded in no time",
            )
        return EmbedPrecision.fp32, None
    found = {precision: compare_rows(exact, theirs) for precision, theirs in rows.items()}
    if asked:
        return config.precision, _accepted(config.precision, found[config.precision])
    return _fastest(found, seconds)


def _accepted(precision: EmbedPrecision, parity: Parity) -> Parity:
    """The figures of a precision that is asked for.

    Raises:
        MismatchError: they are too low.
    """
    wanted = WANTED[precision]
    if parity.neighbours < wanted:
        raise MismatchError(
            f"--precision {precision} does not find what fp32 finds: {parity}; at least "
            f"{100 * wanted:.0f} % are wanted",
            hint="leave it out for fp32, or --precision auto for the fastest that does",
        )
    logger.info("precision %s: %s", precision, parity)
    return parity


def _fastest(
    found: dict[EmbedPrecision, Parity], seconds: dict[EmbedPrecision, float]
) -> tuple[EmbedPrecision, Parity | None]:
    """Of those that find what fp32 finds, and fp32."""
    fp32_seconds = seconds[EmbedPrecision.fp32]
    chosen = EmbedPrecision.fp32
    for precision, parity in found.items():
        logger.info(
            "%s takes %.2f of fp32's time; %s", precision, seconds[precision] / fp32_seconds, parity
        )
        if parity.neighbours >= NEIGHBOURS_AGREE and seconds[precision] < seconds[chosen]:
            chosen = precision
    logger.info("precision %s is taken", chosen)
    return chosen, found.get(chosen)


def compare_rows(exact: Rows, reduced: Rows) -> Parity:
    """How rows (N, D) of the same pictures agree; both unit."""
    cosines = np.vecdot(exact.astype(np.float64), reduced.astype(np.float64))
    own = [{row} for row in range(len(exact))]
    (_, a), (_, b) = (nearest(rows, rows, 1, exclude=own) for rows in (exact, reduced))
    return Parity(len(exact), float(cosines.min()), float(cosines.mean()), float((a == b).mean()))


def _in_turns(
    engines: dict[EmbedPrecision, Engine], files: Sequence[Path], config: EmbedConfig
) -> tuple[dict[EmbedPrecision, Rows], dict[EmbedPrecision, float]]:
    """Each engine's rows of the readable ones, and the seconds they took.

    One after the other in turns, so that what else the machine does slows all of them; the first
    turn, in which memory is laid out, is not in the seconds unless it is the only one.
    """
    rows: dict[EmbedPrecision, list[Rows]] = {precision: [] for precision in engines}
    seconds: dict[EmbedPrecision, list[float]] = {precision: [] for precision in engines}
    for start in range(0, len(files), TURN):
        turn = list(engines.items())
        for precision, engine in turn if start // TURN % 2 else reversed(turn):
            theirs, taken = _rows(engine, files[start : start + TURN], config)
            rows[precision].append(theirs)
            seconds[precision].append(taken)
    return (
        {precision: _joined(parts) for precision, parts in rows.items()},
        {precision: sum(taken[1:] or taken) for precision, taken in seconds.items()},
    )


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
    return _joined([batch.rows for batch in batches]), time.monotonic() - started


def _joined(parts: Sequence[Rows]) -> Rows:
    filled = [rows for rows in parts if len(rows)]
    return np.concatenate(filled) if filled else np.empty((0, 0), np.float32)
