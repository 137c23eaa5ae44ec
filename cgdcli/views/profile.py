"""A profile as tables and plain words."""

from rich.box import SIMPLE_HEAD
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from cgdcli.reports import (
    CompareReport,
    Counts,
    FolderReport,
    LatencyReport,
    LayerProfile,
    ProfileReport,
    StageSpeed,
)
from cgdcli.views.formatting import bytes_text, duration, giga, milliseconds
from cgdcli.words import counted


def profile_table(report: ProfileReport, layers: list[LayerProfile]) -> RenderableType:
    """Counts by `layers` (grouped by the caller), then what was measured."""
    parts: list[RenderableType] = [
        Text(network_line(report)),
        _counts_table(report.counts, layers),
        Text("\n".join(count_lines(report))),
        _latency_table(report.latency),
        Text("\n".join(latency_lines(report))),
    ]
    if report.peaks is not None:
        parts += [_roofline_table(report), Text("\n".join(roofline_lines(report)))]
    if report.folder is not None:
        parts.append(Text("\n".join(folder_lines(report.folder))))
    return Group(*parts)


def compare_table(report: CompareReport) -> RenderableType:
    """Networks side by side; latency is that of the first batch size."""
    profile = next(iter(report.profiles.values()))
    first, machine = profile.latency[0], profile.machine
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    table.add_column("network")
    for title in ("parameters", "MACs", "activations", "median", "p95", "pictures/s", "index"):
        table.add_column(title, justify="right")
    for name, profile in report.profiles.items():
        latency = profile.latency[0]
        table.add_row(
            Text(name),
            f"{profile.counts.parameters / 1e6:.2f} M",
            giga(profile.counts.macs),
            f"{profile.counts.activations / 1e6:.1f} M",
            milliseconds(latency.median_seconds),
            milliseconds(latency.p95_seconds),
            f"{latency.images_per_second:.1f}",
            bytes_text(profile.index_bytes_per_million),
        )
    lines = [
        f"latency at batch {first.batch_size} on {machine}: {first.device}, {first.threads} "
        f"threads, {first.engine} {first.precision}; index: rows of a million pictures; FLOPs are "
        "2 x MACs",
    ]
    stages = stage_rows(report)
    return Group(table, Text("\n".join(lines)), *([_stages_table(stages)] if stages else []))


def stage_rows(report: CompareReport) -> list[tuple[str, ...]]:
    """With rooflines: a row of titles, then each stage's time and share of its bound, side by side;
    branches, which differ, are taken by their letters."""
    speeds = {n: {s.name: s for s in p.speeds} for n, p in report.profiles.items() if p.speeds}
    if not speeds:
        return []
    batch = max(x.batch_size for x in next(iter(report.profiles.values())).latency)
    names = dict.fromkeys(name for found in speeds.values() for name in found)
    cells = [(name, *(_stage_cell(found.get(name)) for found in speeds.values())) for name in names]
    return [(f"stage, batch {batch}", *speeds), *cells]


def _stage_cell(speed: StageSpeed | None) -> str:
    if speed is None:
        return "-"
    return f"{milliseconds(speed.seconds)}, {100 * speed.of_bound:.0f} % ({speed.limited_by})"


def _stages_table(rows: list[tuple[str, ...]]) -> Table:
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    for i, title in enumerate(rows[0]):
        table.add_column(title, justify="right" if i else "left")
    for row in rows[1:]:
        table.add_row(*(Text(cell) for cell in row))
    return table


def network_line(report: ProfileReport) -> str:
    """Which network it is."""
    config = report.config
    size = config["transform"]["image_size"]
    return (
        f"{config['backbone']}, stride {config['stride']}, descriptors {config['descriptors']}, "
        f"embedding_dim {report.embedding_dim}, {config['classes']} classes, {size}x{size}"
    )


def count_lines(report: ProfileReport) -> list[str]:
    """What the counts mean, and what is not in them."""
    counts = report.counts
    others = ", ".join(f"{name} x{times}" for name, times in counts.uncounted.items())
    return [
        f"parameters: {counts.embedding_parameters:,} make embeddings, "
        f"{counts.classifier_parameters:,} are the classifier's (training only); "
        f"{bytes_text(counts.weight_bytes)} of weights",
        f"one multiply-accumulate (MAC) is two FLOPs; the backbone alone takes "
        f"{giga(counts.backbone_macs)} MACs; activations are outputs of convolutions, linear "
        "layers and products",
        f"not counted: {others}",
        *thop_lines(counts),
        f"an index takes {bytes_text(report.index_bytes_per_million)} per million pictures",
    ]


def thop_lines(counts: Counts) -> list[str]:
    """Its early 2020 figure, which papers quote, and its newest; of ResNets alone."""
    if not counts.thop:
        return []
    figures = list(counts.thop.values())
    words = f"{figures[2] / 1e9:.4g} G (2020) or {figures[3] / 1e9:.4g} G (newest)"
    return [f"the profiler thop prints {words}: it also counts BatchNorm values"]


def latency_lines(report: ProfileReport) -> list[str]:
    """How latency was measured, and what stood out."""
    first = report.latency[0]
    lines = [
        f"latency on {report.machine}: {first.device}, {first.threads} threads, {first.engine} "
        f"{first.precision}, {first.repeats} passes after {first.warmup} of warm-up; spread: where "
        "another run's median is expected",
        f"peak memory {bytes_text(max(x.peak_memory_bytes for x in report.latency))} "
        f"({first.peak_memory_of})",
    ]
    for latency in report.latency:
        if latency.outliers:
            passes = counted(latency.outliers, "outlier", "outliers")
            lines.append(
                f"batch {latency.batch_size}: {passes} among the passes, the slowest "
                f"{milliseconds(max(latency.seconds))}; none is left out of the figures"
            )
    return lines


def roofline_lines(report: ProfileReport) -> list[str]:
    """What the peaks are, and what limits most of the time."""
    assert report.peaks is not None
    cached = [speed.name for speed in report.speeds if speed.of_bound > 1]
    total = sum(speed.seconds for speed in report.speeds)
    shares: dict[str, float] = {}
    for speed in report.speeds:
        shares[speed.limited_by] = shares.get(speed.limited_by, 0) + speed.seconds / total
    words = ", ".join(
        f"{100 * share:.0f} % by {what}" for what, share in shares.items() if share >= 0.005
    )
    return [
        f"this machine's peaks: {report.peaks.gflops_per_second:.0f} GFLOP/s and "
        f"{report.peaks.gigabytes_per_second:.1f} GB/s ({report.peaks.how})",
        f"of the time, limited {words} (bound: the roofline at the stage's FLOPs per byte; "
        "overhead: below 30 % of it)",
        *([f"above 100 %: what {', '.join(cached)} moves stays in the caches"] if cached else []),
    ]


def folder_lines(report: FolderReport) -> list[str]:
    """What embedding the folder takes, and where the time goes."""
    parts = {
        "decoding": report.decode_seconds,
        "the transform": report.transform_seconds,
        "the network": report.forward_seconds,
    }
    total = sum(parts.values())
    split = ", ".join(
        f"{name} {milliseconds(seconds)} ({100 * seconds / total:.0f} %)"
        for name, seconds in parts.items()
    )
    lines = [
        f"{report.images_per_second:.1f} pictures/s: your {thousands(report.found)} pictures take "
        f"{duration(report.expected_seconds)} and {bytes_text(report.index_bytes)}",
        f"measured on {report.measured} of them in {report.folder}; one picture by itself: {split}",
    ]
    reading = (report.decode_seconds + report.transform_seconds) / report.workers
    if reading > report.forward_seconds:
        lines.append("reading pictures limits, not the network: more cores help, a GPU does not")
    else:
        lines.append("the network limits, not the reading of pictures: a GPU helps")
    if report.skipped:
        lines.append(
            f"skipped {counted(len(report.skipped), 'picture')} that could not be read, first "
            f"{report.skipped[0].path}: {report.skipped[0].reason}"
        )
    return lines


def thousands(number: int) -> str:
    """48 210"""
    return f"{number:,}".replace(",", " ")


def _counts_table(counts: Counts, layers: list[LayerProfile]) -> Table:
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    table.add_column("part", overflow="fold")
    for title in ("output", "parameters", "MACs", "FLOPs", "activations"):
        table.add_column(title, justify="right")
    for layer in layers:
        table.add_row(
            Text(layer.name.removeprefix("backbone.")),
            "x".join(map(str, layer.output_shape)),
            f"{layer.parameters:,}",
            giga(layer.macs),
            giga(2 * layer.macs),
            f"{layer.activations:,}",
        )
    table.add_section()
    table.add_row(
        "all",
        "",
        f"{counts.parameters:,}",
        giga(counts.macs),
        giga(counts.flops),
        f"{counts.activations:,}",
    )
    return table


def _latency_table(latencies: tuple[LatencyReport, ...]) -> Table:
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    for title in ("batch", "median", "spread", "p95", "p99", "pictures/s"):
        table.add_column(title, justify="right")
    for latency in latencies:
        spread = f"{milliseconds(latency.low_seconds)} to {milliseconds(latency.high_seconds)}"
        table.add_row(
            str(latency.batch_size),
            milliseconds(latency.median_seconds),
            spread,
            milliseconds(latency.p95_seconds),
            milliseconds(latency.p99_seconds),
            f"{latency.images_per_second:.1f}",
        )
    return table


def _roofline_table(report: ProfileReport) -> Table:
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    table.add_column("stage")
    for title in ("time", "GFLOP/s", "GB/s", "FLOPs/byte", "of bound"):
        table.add_column(title, justify="right")
    table.add_column("limited by")
    for speed in report.speeds:
        table.add_row(
            speed.name,
            milliseconds(speed.seconds),
            f"{speed.gflops_per_second:.1f}",
            f"{speed.gigabytes_per_second:.1f}",
            f"{speed.intensity:.1f}",
            f"{100 * speed.of_bound:.0f} %",
            speed.limited_by,
        )
    return table
