"""A profile as a table."""

from rich.box import SIMPLE_HEAD
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from cgdcli.reports import ProfileReport
from cgdcli.views.formatting import bytes_text, giga


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
