"""A profile, or a comparison of several, as one self-contained page."""

from cgdcli.reports import CompareReport, ProfileReport
from cgdcli.views.charts import bars, heading, page, paragraphs, roofline_chart, table
from cgdcli.views.formatting import bytes_text, giga, milliseconds
from cgdcli.views.profile import (
    count_lines,
    folder_lines,
    latency_lines,
    network_line,
    roofline_lines,
    stage_rows,
)


def profile_page(report: ProfileReport | CompareReport) -> str:
    """HTML."""
    if isinstance(report, CompareReport):
        return _comparison(report)
    counts = report.counts
    sections = [
        heading(f"Profile: {network_line(report)}", 1),
        paragraphs(
            [
                f"{counts.parameters / 1e6:.2f} M parameters, {giga(counts.macs)} MACs = "
                f"{giga(counts.flops)} FLOPs a picture"
            ]
        ),
        heading("MACs by stage"),
        bars([(s.name, s.macs, giga(s.macs)) for s in counts.stages if s.macs]),
        heading("Parameters by stage"),
        bars([(s.name, s.parameters, f"{s.parameters:,}") for s in counts.stages if s.parameters]),
        heading("Counts"),
        _counts(report),
        paragraphs(count_lines(report)),
        heading("Latency"),
        bars(
            [
                (f"batch {x.batch_size}", x.images_per_second, f"{x.images_per_second:.1f} /s")
                for x in report.latency
            ]
        ),
        _latency(report),
        paragraphs(latency_lines(report)),
    ]
    if report.peaks is not None:
        sections += _roofline(report)
    if report.folder is not None:
        f = report.folder
        sections += [
            heading("Pictures of a folder"),
            bars(
                [
                    (name, seconds, milliseconds(seconds))
                    for name, seconds in (
                        ("decode", f.decode_seconds),
                        ("transform", f.transform_seconds),
                        ("network", f.forward_seconds),
                    )
                ]
            ),
            paragraphs(folder_lines(f)),
        ]
    return page(f"cgd profile: {network_line(report)}", sections)


def _counts(report: ProfileReport) -> str:
    rows = [
        (
            s.name,
            "x".join(map(str, s.output_shape)),
            f"{s.parameters:,}",
            giga(s.macs),
            giga(2 * s.macs),
            f"{s.activations:,}",
            ", ".join(f"{name} x{times}" for name, times in s.uncounted.items()) or "-",
        )
        for s in report.counts.stages
    ]
    c = report.counts
    total = f"{c.parameters:,}", giga(c.macs), giga(c.flops), f"{c.activations:,}", ""
    titles = ("stage", "output", "parameters", "MACs", "FLOPs", "activations", "not counted")
    return table(titles, [*rows, ("all", "", *total)], prose=True)


def _latency(report: ProfileReport) -> str:
    return table(
        ("batch", "median", "spread", "p95", "p99", "pictures/s", "outliers"),
        [
            (
                str(x.batch_size),
                milliseconds(x.median_seconds),
                f"{milliseconds(x.low_seconds)} to {milliseconds(x.high_seconds)}",
                milliseconds(x.p95_seconds),
                milliseconds(x.p99_seconds),
                f"{x.images_per_second:.1f}",
                str(x.outliers),
            )
            for x in report.latency
        ],
    )


def _roofline(report: ProfileReport) -> list[str]:
    assert report.peaks is not None
    peaks = report.peaks
    return [
        heading("Roofline"),
        roofline_chart(
            [(s.name, s.intensity, s.gflops_per_second) for s in report.speeds if s.flops],
            peaks.gflops_per_second,
            peaks.gigabytes_per_second,
        ),
        heading("Time by stage, and what limits it"),
        bars(
            [
                (s.name, s.seconds, f"{milliseconds(s.seconds)}, {s.limited_by}")
                for s in report.speeds
            ]
        ),
        table(
            ("stage", "time", "GFLOP/s", "GB/s", "FLOPs/byte", "of bound", "limited by"),
            [
                (
                    s.name,
                    milliseconds(s.seconds),
                    f"{s.gflops_per_second:.1f}",
                    f"{s.gigabytes_per_second:.1f}",
                    f"{s.intensity:.1f}",
                    f"{100 * s.of_bound:.0f} %",
                    s.limited_by,
                )
                for s in report.speeds
            ],
        ),
        paragraphs(roofline_lines(report)),
    ]


def _comparison(report: CompareReport) -> str:
    profiles = report.profiles
    rows = [
        (
            name,
            f"{p.counts.parameters:,}",
            giga(p.counts.macs),
            giga(p.counts.flops),
            f"{p.counts.activations:,}",
            str(p.embedding_dim),
            milliseconds(p.latency[0].median_seconds),
            milliseconds(p.latency[0].p95_seconds),
            f"{p.latency[0].images_per_second:.1f}",
            bytes_text(p.index_bytes_per_million),
        )
        for name, p in profiles.items()
    ]
    titles = (
        *("network", "parameters", "MACs", "FLOPs", "activations", "dimension", "median", "p95"),
        *("pictures/s", "index per million"),
    )
    first = next(iter(profiles.values()))
    return page(
        f"cgd profile: {', '.join(profiles)}",
        [
            heading(f"Networks side by side: {', '.join(profiles)}", 1),
            heading("MACs"),
            bars([(n, p.counts.macs, giga(p.counts.macs)) for n, p in profiles.items()]),
            heading("Pictures a second"),
            bars(
                [
                    (n, p.latency[0].images_per_second, f"{p.latency[0].images_per_second:.1f}")
                    for n, p in profiles.items()
                ]
            ),
            heading("Table"),
            table(titles, rows),
            paragraphs(latency_lines(first)[:1]),
            *_stages(report),
        ],
    )


def _stages(report: CompareReport) -> list[str]:
    rows = stage_rows(report)
    if not rows:
        return []
    return [
        heading("Time by stage, share of its bound, and what limits it"),
        table(rows[0], rows[1:]),
    ]
