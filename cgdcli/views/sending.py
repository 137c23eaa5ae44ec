"""An index that was sent, in plain words."""

from cgdcli.reports import SentReport
from cgdcli.views.formatting import duration
from cgdcli.words import counted


def sent_lines(report: SentReport) -> list[str]:
    """What went, what was there, how well it is found, and what to do with it."""
    rows = f"{counted(report.rows, 'row')} of {report.embedding_dim}"
    lines = [f"{report.address}: {rows}, in {duration(report.seconds)}"]
    if report.recall is None:
        lines = [f"{report.address}: the same {rows} are there; nothing was sent"]
    else:
        if report.continued:
            lines.append(f"{report.continued} of them had been sent before")
        lines.append(
            f"{report.index_type}: finds {100 * report.recall:.1f} % of the 10 nearest rows of "
            f"{counted(report.sampled, 'row')}"
        )
    return [*lines, f"search it: cgd search QUERY --index {report.address}"]
