"""Job: an approximate index beside an exact one, for more rows than one wants to look at."""

import logging
import time
from dataclasses import replace
from pathlib import Path

from cgdcli.config import ApproximateConfig, ApproximateKind
from cgdcli.errors import CGDError, ConfigError
from cgdcli.files import atomic_files
from cgdcli.index.approximate import (
    ApproximateFacts,
    facts_path,
    faiss_path,
    file_digest,
    imported_faiss,
)
from cgdcli.index.approximating import (
    FEWEST_ROWS,
    OnRows,
    Trial,
    kinds_to_try,
    make,
    sample_of,
)
from cgdcli.index.records import blob_or_text
from cgdcli.index.store import EmbeddingIndex, open_index
from cgdcli.locks import writer_lock
from cgdcli.remote import shown
from cgdcli.reports import ApproximateReport

logger = logging.getLogger("cgdcli")


def index_approximately(
    index: EmbeddingIndex | Path | str,
    config: ApproximateConfig | None = None,
    *,
    force: bool = False,
    on_rows: OnRows | None = None,
) -> ApproximateReport:
    """Make `feats.faiss` beside `feats.npy`, and measure it.

    None is made of fewer rows than it is worth, unless a kind is named; one that is there is then
    left, or with `force` made anew, and removed if it is of other rows, or damaged.

    Args:
        force: make it anew also where the one that is there is of these rows.

    Raises:
        ConfigError: faiss is not installed, the index has no rows, its path is not UTF-8, or short
            rows take more than `config.max_memory`.
        OutputError: it cannot be written, or another process is writing it.
    """
    config, stored = config or ApproximateConfig(), open_index(index)
    started = time.monotonic()
    if stored.proposed_by is not None:
        raise ConfigError(
            f"`{shown(stored.path)}` is in Milvus, which has an index of its own",
            hint="give the index in files that was sent there",
        )
    if not len(stored):
        raise ConfigError(f"`{stored.path}` has no rows", hint="embed pictures first")
    target, facts_file = faiss_path(stored.path), facts_path(stored.path)
    if not kinds_to_try(config, len(stored), stored.dim):
        there = _sound(facts_file, target, stored)
        if there is None:
            _remove_old(target, facts_file)
            return ApproximateReport(stored.path, None, len(stored), fewest_rows=FEWEST_ROWS)
        config = replace(config, kind=there.kind)
    imported_faiss()
    if isinstance(blob_or_text(str(target)), bytes):
        raise ConfigError(
            f"`{target}` is not UTF-8, and faiss opens no such path",
            hint="search without it, or rename the folder or the index",
        )
    with writer_lock(target):
        facts = None if force else _there(facts_file, target, stored, config)
        new = facts is None
        if facts is None:
            facts = _made(stored, config, target, facts_file, on_rows)
    return ApproximateReport(
        stored.path,
        target,
        len(stored),
        new,
        facts.faiss,
        facts.nprobe,
        facts.candidates,
        facts.recall,
        facts.sample,
        1 / facts.seconds,
        1 / facts.exact_seconds,
        target.stat().st_size,
        time.monotonic() - started,
    )


def _remove_old(target: Path, facts_file: Path) -> None:
    """One that no search uses is warned of by each: take it away, where none is made instead."""
    if not facts_file.exists():
        return
    with writer_lock(target):
        facts_file.unlink(missing_ok=True)
        target.unlink(missing_ok=True)
    logger.info(
        "`%s` is removed: it is old or damaged, and so few rows want none",
        shown(target),
    )


def _sound(facts_file: Path, target: Path, index: EmbeddingIndex) -> ApproximateFacts | None:
    """What is there, if it is undamaged and of these rows."""
    try:
        facts = ApproximateFacts.read(facts_file)
        return facts if facts.describes(index) and facts.digest == file_digest(target) else None
    except (CGDError, OSError):
        return None


def _there(
    facts_file: Path, target: Path, index: EmbeddingIndex, config: ApproximateConfig
) -> ApproximateFacts | None:
    """What is there already, if it is of these rows and of what is asked."""
    if not facts_file.exists() or not target.exists():
        return None
    try:
        facts = ApproximateFacts.read(facts_file)
    except CGDError:
        return None
    same = facts.describes(index) and config.kind in (ApproximateKind.auto, facts.kind)
    return facts if same and facts.recall >= config.recall else None


def _made(
    index: EmbeddingIndex,
    config: ApproximateConfig,
    target: Path,
    facts_file: Path,
    on_rows: OnRows | None,
) -> ApproximateFacts:
    """The first kind that reaches the recall, else the one that comes nearest; written."""
    faiss = imported_faiss()
    sample = sample_of(index, config.sample)
    best: ApproximateFacts | None = None
    with atomic_files(facts_file, target) as folder:
        for kind in kinds_to_try(config, len(index), index.dim):
            made, tried = make(index, kind, on_rows), folder / f"{kind}.faiss"
            faiss.write_index(made, str(tried))
            facts = Trial(made, kind, index, sample).tuned(tried, config.recall)
            if best is None or facts.recall > best.recall:
                best = facts
                tried.replace(folder / target.name)
            if best.recall >= config.recall:
                break
        assert best is not None
        (folder / facts_file.name).write_text(best.text())
    if best.recall < config.recall:
        logger.warning(
            "recall@10 %.3f is less than the %.3f that were wanted: the rows lie such that short "
            "ones do not tell them apart; `--exact` searches without it",
            *(best.recall, config.recall),
        )
    return best
