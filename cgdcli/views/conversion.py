"""A conversion in plain words."""

from cgdcli.reports import ConversionReport


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
