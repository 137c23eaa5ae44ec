"""Reports as rich tables and plain words."""

import shlex
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from cgdcli.reports import (
    ConversionReport,
    EmbedReport,
    EpochReport,
    InspectReport,
    ProfileReport,
    QueryHits,
    RecallReport,
    StartReport,
    TrainReport,
)
from cgdcli.words import counted


def hits_table(result: QueryHits) -> RenderableType:
    """rank, similarity, label, path; branches where they were asked for."""
    letters = list(result.hits[0].branches or ()) if result.hits else []
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    table.add_column("rank", justify="right")
    table.add_column("similarity", justify="right")
    for letter in letters:
        table.add_column(letter, justify="right")
    table.add_column("label")
    table.add_column("path", overflow="fold")
    for hit in result.hits:
        cells = [str(hit.rank), f"{hit.similarity:.4f}"]
        cells += [f"{(hit.branches or {})[letter]:.2f}" for letter in letters]
        cells += [hit.label if hit.label is not None else "-", hit.path]
        table.add_row(*(Text(cell) for cell in cells))
    label = f" (label {result.label})" if result.label is not None else ""
    return Group(Text(f"{result.query}{label}"), table)


def recall_line(report: RecallReport) -> str:
    """R@1 0.437  R@2 ... mAP@R ..."""
    parts = [f"R@{rank} {share:.4f}" for rank, share in report.recall.items()]
    parts.append("mAP@R -" if report.map_at_r is None else f"mAP@R {report.map_at_r:.4f}")
    return "  ".join(parts)


def recall_table(report: RecallReport) -> RenderableType:
    """The measures, and what they were measured on."""
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    for rank in report.recall:
        table.add_column(f"Recall@{rank}", justify="right")
    table.add_column("mAP@R", justify="right")
    shares = [f"{100 * share:.2f} %" for share in report.recall.values()]
    table.add_row(*shares, "-" if report.map_at_r is None else f"{100 * report.map_at_r:.2f} %")
    words = (
        f"{counted(report.queries, 'query', 'queries')} of {counted(report.labels, 'label')} in "
        f"{counted(report.gallery, 'row')}"
    )
    if report.without_partner:
        shown = ", ".join(report.lonely_labels[:5])
        more = f" and {len(report.lonely_labels) - 5} more" if len(report.lonely_labels) > 5 else ""
        words += (
            f"; {counted(report.without_partner, 'query has', 'queries have')} no partner (label "
            f"{shown}{more}): misses for Recall, left out of mAP@R"
        )
    return Group(Text(f"{report.what}: {words}" if report.what else words), table)


def start_lines(report: StartReport) -> list[str]:
    """What a run is about to do."""
    judged = {
        "val": "val",
        "held-out classes": "classes held out of train",
        "train": "the pictures trained on",
    }[report.judged_on]
    lines = [f"note: {note}" for note in report.notes]
    lines.append(
        f"run {report.run}: {report.images} pictures of {report.classes} classes, "
        f"{report.steps_per_epoch} steps of {report.batch_size} an epoch, epochs "
        f"{report.first_epoch} to {report.epochs}, on {report.device}; judged on {judged}"
    )
    return lines


def epoch_line(report: EpochReport) -> str:
    """One line an epoch."""
    judged = recall_line(report.evaluation) if report.evaluation else "not judged"
    if report.epoch == 0:
        return f"before training, pooled descriptors of the backbone  {judged}"
    star = "  best so far" if report.is_best else ""
    return (
        f"epoch {report.epoch}/{report.epochs}  loss {report.loss:.3f} "
        f"(class {report.class_loss:.3f}, triplet {report.triplet_loss:.3f}, "
        f"active {report.active_triplets:.0%})  {report.images_per_second:.1f} pictures/s  "
        f"{judged}{star}"
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


def embed_lines(report: EmbedReport) -> list[str]:
    """What was made, where, how fast, and what to type next."""
    size = report.index.stat().st_size
    lines = [
        f"{report.index}: {counted(report.rows, 'row')} of {report.embedding_dim}, "
        f"{bytes_text(size)}, {counted(report.labels, 'label')}, in {duration(report.seconds)} "
        f"({report.images_per_second:.1f} pictures/s)"
    ]
    if report.passed_over:
        lines.append(f"passed over {counted(report.passed_over, 'file')}, no pictures by name")
    if report.zero_blocks:
        lines.append(f"with a branch that is all zero: {counted(report.zero_blocks, 'row')}")
    if report.skipped:
        lines.append(f"skipped {counted(len(report.skipped), 'picture')} that could not be read:")
        lines += [f"  {s.path}: {s.reason}" for s in report.skipped[:20]]
        if len(report.skipped) > 20:
            lines.append(f"  ... all of them: cgd inspect {report.index} --skipped")
    lines.append(f"next: cgd search PICTURE --index {shlex.quote(str(report.index))}")
    return lines


def conversion_lines(report: ConversionReport) -> list[str]:
    """What was kept, renamed and dropped, with counts, and what was assumed."""
    lines = [f"read {report.source}: {report.source_entries} entries, {report.format}"]
    if report.wrapper:
        lines.append(f"unwrapped: {report.wrapper}")
    reasons: dict[str, list[str]] = {}
    for name, reason in report.dropped.items():
        reasons.setdefault(reason, []).append(name)
    lines.append(f"kept      {len(report.kept):4d}")
    example = next(iter(report.renamed.items()), None)
    lines.append(
        f"renamed   {len(report.renamed):4d}"
        + (f"  ({example[0]} -> {example[1]} ...)" if example else "")
    )
    lines.append(f"dropped   {len(report.dropped):4d}")
    lines += [f"  {len(names):4d} {why}: {names[0]} ..." for why, names in reasons.items()]
    if report.filled:
        lines.append(f"added     {len(report.filled):4d}  (num_batches_tracked, 0; unused)")
    if report.upcast:
        lines.append(f"brought to float32: {report.upcast} entries (half or double precision)")
    config = report.config
    lines += [
        f"wrote {report.target}: {report.written_entries} entries, read back and equal",
        f"network {config['backbone']}, stride {config['stride']}, descriptors "
        f"{config['descriptors']}, embedding_dim {config['embedding_dim'] or 'none (pooled)'}, "
        f"{config['classes']} classes, image size {config['transform']['image_size']}",
    ]
    return lines


def profile_table(report: ProfileReport) -> RenderableType:
    """Counts by stage, then latency."""
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    table.add_column("stage")
    for title in ("output", "parameters", "MACs", "FLOPs"):
        table.add_column(title, justify="right")
    for stage in report.stages:
        shape = "x".join(map(str, stage.output_shape))
        table.add_row(
            stage.name, shape, f"{stage.parameters:,}", giga(stage.macs), giga(2 * stage.macs)
        )
    table.add_section()
    table.add_row("all", "", f"{report.parameters:,}", giga(report.macs), giga(report.flops))
    config = report.config
    size = config["transform"]["image_size"]
    lines = [
        f"{config['backbone']}, stride {config['stride']}, descriptors {config['descriptors']}, "
        f"embedding_dim {report.embedding_dim}, {config['classes']} classes, {size}x{size}",
    ]
    after = [
        f"parameters: {report.embedding_parameters:,} make embeddings, "
        f"{report.classifier_parameters:,} are the classifier's (training only); "
        f"{bytes_text(report.weight_bytes)} of weights",
        f"one multiply-accumulate (MAC) is two FLOPs; the backbone alone takes "
        f"{giga(report.backbone_macs)} MACs",
        "not counted: " + ", ".join(f"{name} x{times}" for name, times in report.uncounted.items()),
        f"latency at batch {report.batch_size} on {report.device} ({report.threads} threads): "
        f"median {1000 * report.latency_seconds:.1f} ms, p95 "
        f"{1000 * report.latency_p95_seconds:.1f} ms of {report.repeats}; "
        f"{report.images_per_second:.1f} pictures/s",
        f"peak memory {bytes_text(report.peak_memory_bytes)} ({report.peak_memory_of})",
        f"an index takes {bytes_text(4 * report.embedding_dim * 1_000_000)} per million pictures",
    ]
    return Group(Text("\n".join(lines)), table, Text("\n".join(after)))


def inspect_table(report: InspectReport, *, whole: bool = False) -> RenderableType:
    """Facts by name; nested ones on lines of their own; long lists counted, or `whole`."""
    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column("fact")
    table.add_column("value", overflow="fold")
    for key, value in _flat(report.facts, "", 10**9 if whole else 12):
        table.add_row(key, Text(str(value)))
    notes = [Text(f"note: {note}") for note in report.notes]
    return Group(Text(f"{report.path}: {report.kind}"), table, *notes)


def duration(seconds: float) -> str:
    """4.2 s, 3 min 05 s, 2 h 10 min."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02d} s"
    return f"{minutes // 60} h {minutes % 60:02d} min"


def bytes_text(count: float) -> str:
    """1.5 MB: decimal units."""
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000 or unit == "GB":
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    raise AssertionError


def giga(count: int) -> str:
    """Billions to two places, or millions to three."""
    return f"{count / 1e9:.2f} G" if count >= 1e9 else f"{count / 1e6:.3f} M"


def _flat(facts: dict[str, Any], prefix: str, longest: int) -> list[tuple[str, Any]]:
    rows: list[tuple[str, Any]] = []
    for key, value in facts.items():
        if isinstance(value, dict):
            rows += _flat(value, f"{prefix}{key}.", longest)
        elif isinstance(value, (list, tuple)) and len(value) > longest:
            rows.append((prefix + key, f"{len(value)} entries"))
        else:
            rows.append((prefix + key, "-" if value in (None, [], ()) else value))
    return rows
