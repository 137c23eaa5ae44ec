"""Job: pictures become an index in parts, made by one process or by many that need not talk.

Every process finds all pictures and embeds those of its own parts; `index.shards` says which these
are. A part is an index of its own: locked, refreshed and kept through a kill by itself. So a job
array, or a cluster that starts again what has died, needs nothing else.
"""

import logging
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from cgdcli.config import EmbedConfig, EmbedPrecision
from cgdcli.embedding import EmbedJob, EmbedRequest, make_part, prepared
from cgdcli.errors import ConfigError
from cgdcli.index.shards import Shard, shards
from cgdcli.index.store import EmbeddingIndex
from cgdcli.reports import EmbedReport, StageTimes
from cgdcli.streaming import OnProgress, nothing_readable

logger = logging.getLogger("cgdcli")


def embed_parts(
    request: EmbedRequest, parts: int, on_progress: OnProgress | None = None
) -> EmbedReport:
    """Embed into an index in `parts`, all of them one after the other; else as `embed_images`.

    Returns:
        What was made, of all parts together; its `index` is the name of the whole.

    Raises:
        ConfigError: there is no such number of parts, or a projection is wanted.
        MismatchError: the index is there in another number of parts, or as one.
        CGDError: as `embed_images`.
    """
    started = time.monotonic()
    check_nothing_learned(request.config)
    every = shards(parts)
    job = prepared(request, every)
    reports = made(job, every, on_progress)
    return whole_report(job.target, reports, time.monotonic() - started)


def embed_shard(
    request: EmbedRequest, shard: Shard, on_progress: OnProgress | None = None
) -> EmbedReport:
    """Embed one part of an index: that of one job of an array; else as `embed_images`.

    Slurm: `Shard.parse(f"{os.environ['SLURM_ARRAY_TASK_ID']}/16")` in an array 0-15; Kubernetes:
    `JOB_COMPLETION_INDEX` of an indexed job.

    Raises:
        ConfigError: see `check_agreeing`.
        CGDError: as `embed_images`; but a part without a readable picture is no failure.
    """
    started = time.monotonic()
    check_agreeing(request.config)
    report = make_part(prepared(request, [shard]), shard, on_progress)
    return replace(report, seconds=time.monotonic() - started)


def check_agreeing(config: EmbedConfig) -> None:
    """Refuse what processes that do not talk might decide differently.

    Raises:
        ConfigError: it is `--precision auto`, of which the faster one is taken, as measured; or a
            projection.
    """
    check_nothing_learned(config)
    if config.precision is EmbedPrecision.auto:
        raise ConfigError(
            "--precision auto is measured by each process, and all parts must be of one precision",
            hint="say which: --precision fp32, or bf16",
        )


def check_nothing_learned(config: EmbedConfig) -> None:
    """Refuse what is learned on all rows of an index: each part would learn its own.

    Raises:
        ConfigError: it is `--whiten` or `--dim`, or the calibration of int8.
    """
    if config.precision is EmbedPrecision.int8:
        raise ConfigError(
            "--precision int8 is calibrated on pictures of the whole index, and a part has its own",
            hint="choose another --precision (bf16), or make the index as one",
        )
    if config.vectors.projects:
        raise ConfigError(
            f"`{config.vectors}` learns a projection on all rows, and a part has only its own",
            hint="leave out --whiten and --dim, or make the index as one; --dtype float16 halves "
            "parts, too",
        )


def made(
    job: EmbedJob, which: Sequence[Shard], on_progress: OnProgress | None = None
) -> list[EmbedReport]:
    """Make parts one after the other."""
    reports: list[EmbedReport] = []
    for shard in which:
        logger.debug("part %s: %s", shard, shard.path(job.target).name)
        reports.append(make_part(job, shard, _over_all(job, reports, on_progress)))
    return reports


def whole_report(target: Path, reports: Sequence[EmbedReport], seconds: float) -> EmbedReport:
    """One report of all parts of an index, which are opened together and so checked.

    Raises:
        DatasetError: not one picture could be read.
        MismatchError: the parts do not belong together.
    """
    first = reports[0]
    skipped = tuple(picture for report in reports for picture in report.skipped)
    with EmbeddingIndex.open(first.index) as index:
        rows, labels = len(index), len(index.known_labels())
    if not rows:
        raise nothing_readable(len(skipped), skipped, "the parts of the index are empty")
    return replace(
        first,
        index=target,
        rows=rows,
        labels=labels,
        seconds=seconds,
        skipped=skipped,
        zero_blocks=sum(report.zero_blocks for report in reports),
        embedded=sum(report.embedded for report in reports),
        renamed=sum(report.renamed for report in reports),
        relabelled=sum(report.relabelled for report in reports),
        dropped=sum(report.dropped for report in reports),
        continued=sum(report.continued for report in reports),
        times=sum((report.times for report in reports), StageTimes()),
        bytes=sum(report.bytes for report in reports),
        parts=len(reports),
    )


def _over_all(
    job: EmbedJob, before: Sequence[EmbedReport], on_progress: OnProgress | None
) -> OnProgress | None:
    """Progress of one part as progress of all: pictures that are known already count as done."""
    if on_progress is None:
        return None
    report = on_progress
    done_before = sum(part.rows + len(part.skipped) for part in before)
    skipped_before = sum(len(part.skipped) for part in before)
    total = len(job.listing.images)

    def update(done: int, _: int, skipped: int) -> None:
        report(min(total, done_before + done), total, skipped_before + skipped)

    return update
