"""Embedding, searching, evaluating and training as tables and plain words."""

import shlex
from collections.abc import Mapping

from rich.box import SIMPLE_HEAD
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from cgdcli.index.shards import part_named
from cgdcli.remote import shown
from cgdcli.reports import (
    ApproximateReport,
    EmbedReport,
    EpochReport,
    QueryHits,
    RecallReport,
    StartReport,
    StepReport,
    TrainReport,
    VectorsReport,
    VectorStep,
)
from cgdcli.views.formatting import bytes_text, duration, shown_name
from cgdcli.words import counted


def hits_table(
    result: QueryHits, pictures: Mapping[str, RenderableType] | None = None
) -> RenderableType:
    """rank, similarity, label, path; score and branches where they were asked for.

    Args:
        pictures: by path, to be shown beside the hits, and above the table the query's.
    """
    letters = list(result.hits[0].branches or ()) if result.hits else []
    scores = any(hit.score is not None for hit in result.hits)
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    if pictures:
        table.add_column("", no_wrap=True)
    table.add_column("rank", justify="right")
    table.add_column("similarity", justify="right")
    for title in [*(["score"] if scores else []), *letters]:
        table.add_column(title, justify="right")
    table.add_column("label")
    table.add_column("path", overflow="fold")
    for hit in result.hits:
        cells = [str(hit.rank), f"{hit.similarity:z.4f}"]
        cells += [f"{hit.score:z.4f}"] if hit.score is not None else []
        cells += [f"{(hit.branches or {})[letter]:.2f}" for letter in letters]
        cells += [hit.label if hit.label is not None else "-", hit.path]
        row: list[RenderableType] = [pictures.get(hit.path, "")] if pictures else []
        table.add_row(*row, *(Text(shown_name(cell)) for cell in cells))
    label = f" (label {result.label})" if result.label is not None else ""
    asked = pictures.get(result.query_path or "") if pictures else None
    asking = Text(shown_name(f"{result.query}{label}"))
    return Group(asking, table) if asked is None else Group(asking, asked, table)


def approximate_lines(report: ApproximateReport) -> list[str]:
    """What an approximate index is and does; or why there is none."""
    if report.file is None:
        return [
            f"none is made of {counted(report.rows, 'row')}: below {report.fewest_rows} looking at "
            "every row takes a few ms; --type rabitq makes one all the same"
        ]
    words = "made" if report.new else "is there already"
    times = report.queries_per_second / report.exact_per_second
    took = f" in {duration(report.seconds)}" if report.new else ""
    return [
        f"{report.file} {words}{took}: {report.faiss}, {bytes_text(report.bytes)}",
        f"recall@10 {report.recall:.4f} ({counted(report.sample, 'row')} of the index asked), "
        f"{report.nprobe} cells and {report.candidates} candidates a query",
        f"{report.queries_per_second:.0f} queries/s one after the other, {times:.1f} x looking at "
        f"every row ({report.exact_per_second:.1f})",
    ]


def recall_line(report: RecallReport) -> str:
    """R@1 0.437  R@2 ... mAP@R ..."""
    parts = [f"R@{rank} {share:.4f}" for rank, share in report.recall.items()]
    parts.append("mAP@R -" if report.map_at_r is None else f"mAP@R {report.map_at_r:.4f}")
    return "  ".join(parts)


def judged_words(report: RecallReport) -> str:
    """What was measured on, and what had no partner."""
    words = _judged_on(report)
    if report.without_partner:
        shown = ", ".join(report.lonely_labels[:5])
        more = f" and {len(report.lonely_labels) - 5} more" if len(report.lonely_labels) > 5 else ""
        words += (
            f"; {counted(report.without_partner, 'query has', 'queries have')} no partner (label "
            f"{shown}{more}): misses for Recall, left out of mAP@R"
        )
    return f"{report.what}: {words}" if report.what else words


def vectors_table(report: VectorsReport) -> RenderableType:
    """Step by step: columns, bytes of a row, what embedding costs, and the measures."""
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    table.add_column("and then", overflow="fold")
    for title in ("dim", "bytes", "cost", *(f"R@{rank}" for rank in report.steps[0].recall)):
        table.add_column(title, justify="right")
    table.add_column("mAP@R", justify="right")
    for step in report.steps:
        cells = (step.step, str(step.dim), str(step.row_bytes), f"{step.compute:.1f}")
        table.add_row(*(Text(cell) for cell in (*cells, *_shares(step))))
    words = _judged_on(report)
    if report.without_partner:
        words += f"; {counted(report.without_partner, 'query has', 'queries have')} no partner"
    return Group(Text(f"{report.what}: {words}"), table)


def _shares(report: RecallReport | VectorStep) -> list[str]:
    shares = [f"{100 * share:.2f} %" for share in report.recall.values()]
    return [*shares, "-" if report.map_at_r is None else f"{100 * report.map_at_r:.2f} %"]


def _judged_on(report: RecallReport | VectorsReport) -> str:
    return (
        f"{counted(report.queries, 'query', 'queries')} of {counted(report.labels, 'label')} in "
        f"{counted(report.gallery, 'row')}"
    )


def start_lines(report: StartReport) -> list[str]:
    """What a run is about to do."""
    judged = {
        "val": "val",
        "held-out classes": "classes held out of train",
        "train": "the pictures trained on",
    }[report.judged_on]
    lines = [f"note: {note}" for note in report.notes]
    steps = f"{report.steps_per_epoch} steps of {report.batch_size} an epoch, epochs "
    steps += f"{report.first_epoch} to {report.epochs}"
    if report.first_epoch > report.epochs:  # stopped at its end, or ended by --epochs
        steps = f"nothing is left to train after {counted(report.epochs, 'epoch')}"
    lines.append(
        f"run {report.run}: {report.images} pictures of {report.classes} classes, {steps}, on "
        f"{report.device}; judged on {judged}"
    )
    return lines


def step_line(report: StepReport) -> str:
    """One line a step, where there is no room for more."""
    left = "" if report.left_seconds is None else f"  {duration(report.left_seconds)} left"
    return (
        f"epoch {report.epoch} step {report.step}/{report.steps}  loss {report.loss:.3f}  "
        f"active {report.active_triplets:.0%}  distance {report.mean_distance:.2f}  "
        f"lr {report.learning_rate:.1e}  {report.images_per_second:.1f} pictures/s{left}"
    )


def epoch_line(report: EpochReport) -> str:
    """One line an epoch."""
    judged = recall_line(report.evaluation) if report.evaluation else ""
    if report.epoch == 0:
        return f"before training, pooled descriptors of the backbone  {judged}"
    star = "  best so far" if report.is_best else ""
    parts = [f"class {report.class_loss:.3f}", f"ranking {report.ranking_loss:.3f}"]
    if report.proxy_loss:
        parts.append(f"proxy {report.proxy_loss:.3f}")
    return (
        f"epoch {report.epoch}/{report.epochs}  loss {report.loss:.3f} ({', '.join(parts)}, "
        f"active {report.active_triplets:.0%})  {report.images_per_second:.1f} pictures/s"
        + (f"  {judged}{star}" if report.evaluation else "")
    )


def train_lines(report: TrainReport) -> list[str]:
    """How a run ended, and what to type next."""
    chosen = (
        f"best epoch {report.best_epoch} of {report.epochs} (chosen on {report.judged_on})"
        if report.best_epoch
        else f"last of {report.epochs} epochs"
    )
    lines = [f"model {report.model}: {chosen}, trained for {duration(report.seconds)}"]
    if report.evaluation:
        lines.append(f"{report.judged_on:17s} {recall_line(report.evaluation)}")
    if report.test:
        lines.append(f"{'test':17s} {recall_line(report.test)}")
    lines.append(f"next: cgd embed IMAGES -o feats.npy --model {shlex.quote(str(report.run))}")
    return lines


def _embed_changes(report: EmbedReport) -> str:
    """Of an index that was there before, or begun by a run that was stopped."""
    kept = report.rows - report.embedded
    said = [f"{report.embedded} embedded", f"{kept} kept"]
    if report.renamed:
        said.append(f"{report.renamed} of them renamed")
    if report.relabelled:
        said.append(f"{report.relabelled} of them with another label")
    if report.dropped:
        said.append(f"{report.dropped} dropped")
    changed = report.embedded, report.renamed, report.relabelled, report.dropped
    if not any(changed) and not report.continued:
        return "nothing was new, changed or gone"
    gone_on = "went on from a run that was stopped: " if report.continued else ""
    return gone_on + ", ".join(said)


def times_line(report: EmbedReport) -> str:
    """Where the time went: seconds of all threads together, which overlap."""
    times = report.times
    parts = {
        "decode": times.decode,
        "transform": times.transform,
        "forward": times.forward,
        "write": times.write,
    }
    each = ", ".join(f"{name} {seconds:.2f} s" for name, seconds in parts.items())
    return f"time, all threads together: {each}; from start to end {report.seconds:.2f} s"


def embed_lines(report: EmbedReport) -> list[str]:
    """What was made, where, how fast, and what to type next."""
    how = f"{report.images_per_second:.1f} pictures/s, {report.engine} {report.precision}"
    rate = f" ({how})" if report.embedded else ""
    in_parts = f" in {counted(report.parts, 'part')}" if report.parts else ""
    lines = [
        f"{shown(report.index)}{in_parts}: "
        f"{counted(report.rows, 'row')} of {report.embedding_dim}, "
        f"{bytes_text(report.bytes)}, {counted(report.labels, 'label')}, "
        f"in {duration(report.seconds)}{rate}"
    ]
    if report.vectors:
        lines.append(f"made with {report.vectors}: recorded, and applied to queries")
    if report.embedded < report.rows or report.dropped:
        lines.append(_embed_changes(report))
    if report.excluded:
        lines.append(f"left out by --exclude: {counted(report.excluded, 'picture')}")
    if report.passed_over:
        lines.append(f"passed over {counted(report.passed_over, 'file')}, no pictures by name")
    if report.zero_blocks:
        lines.append(f"with a branch that is all zero: {counted(report.zero_blocks, 'row')}")
    if report.skipped:
        lines.append(f"skipped {counted(len(report.skipped), 'picture')} that could not be read:")
        lines += [f"  {s.path}: {s.reason}" for s in report.skipped[:20]]
        if len(report.skipped) > 20:
            lines.append(f"  ... all of them: cgd inspect {shown(report.index)} --skipped")
    named = part_named(report.index)
    whole = report.index if named is None else named[0]
    others = f"the other parts of {named[1].of}, then " if named and named[1].of > 1 else ""
    lines.append(f"next: {others}cgd search PICTURE --index {shlex.quote(shown(whole))}")
    return lines
