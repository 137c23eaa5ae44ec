"""An exported graph in plain words."""

from cgdcli.reports import GraphReport
from cgdcli.views.formatting import bytes_text, duration
from cgdcli.words import counted


def graph_lines(report: GraphReport, *, every: bool = False) -> list[str]:
    """What was written, its function, how it was proved; `every`: its metadata, too."""
    parity, size = report.parity, report.image_size
    pictures = counted(parity.pictures, "picture")
    where = f"of {parity.images}" if parity.images else "drawn for it"
    sizes = ", ".join(map(str, parity.batch_sizes))
    lines = [
        f"wrote {' and '.join(map(str, report.files))}: {report.format}, "
        f"{bytes_text(report.bytes)}, in {duration(report.seconds)}",
        f"pixels uint8 (N, {size}, {size}, 3), RGB -> embedding float32 "
        f"(N, {report.embedding_dim}), rows of length 1",
        f"differs from PyTorch by {parity.difference:.1e} at most ({parity.tolerance:g} allowed), "
        f"on noise in batches of {sizes} and on {pictures} {where}",
        f"nearest neighbour the same for {100 * parity.neighbours:.1f} % of the {pictures}",
    ]
    if parity.images is None:
        lines.append("hint: --images DIR compares on your own pictures, which says more")
    if parity.skipped:
        first = parity.skipped[0]
        lines.append(
            f"not compared: {counted(len(parity.skipped), 'picture')} that cannot be read, such as "
            f"{first.path}: {first.reason}"
        )
    if every:
        lines += [f"{name}: {value}" for name, value in report.metadata.items()]
    return lines
