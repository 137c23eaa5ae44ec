"""A finished run as one self-contained page."""

from collections.abc import Iterator, Sequence
from dataclasses import fields

from cgdcli.reports import BranchRecall, EpochReport, RunReport
from cgdcli.views.charts import heading, page, paragraphs, table
from cgdcli.views.curves import CURVES_STYLE, interval_bars, line_chart, percent, plain
from cgdcli.views.embedding_map import MAP_SCRIPT, MAP_STYLE, embedding_map
from cgdcli.views.formatting import duration
from cgdcli.views.tiles import TILES_STYLE, pair_sheet, query_sheet
from cgdcli.words import counted

# What an epoch's fields are called; one that is not named here is shown by its own name.
_CURVES = {
    "loss": "loss, all parts",
    "class_loss": "class loss (cross-entropy)",
    "ranking_loss": "ranking loss",
    "proxy_loss": "proxy loss (normalized softmax)",
    "mean_distance": "mean distance of a batch's embeddings",
    "active_triplets": "active triplets",
    "learning_rate": "learning rate",
    "accuracy": "accuracy of the classifier",
    "images_per_second": "pictures/s",
}
_SHARES = {"active_triplets", "accuracy"}
_NO_CURVES = {"epoch", "epochs", "train_seconds", "evaluation", "is_best"}


def run_page(report: RunReport) -> str:
    """HTML of a few megabytes at most; asks for nothing from outside. Pictures that are gone are
    named in their place."""
    sections = [
        heading(f"Run {report.run}", 1),
        paragraphs(_summary(report)),
        heading(f"Recall on {report.what}"),
        interval_bars([(m.name, m.value, m.low, m.high) for m in report.measures]),
        paragraphs(_recall_notes(report)),
        heading("Training"),
        f'<div class="curves">{"".join(_curves(report))}</div>',
        heading("Branches"),
        *_branches(report),
        heading("Worst queries"),
        paragraphs([_SHEET_WORDS.format("Smallest")]),
        query_sheet(report.worst),
        heading("Best queries"),
        paragraphs([_SHEET_WORDS.format("Largest")]),
        query_sheet(report.best),
        heading("Most confused classes"),
        pair_sheet(report.confused),
        heading("Map of the embeddings"),
        paragraphs(_map_words(report)),
        embedding_map(report.points),
        heading("Settings"),
        table(("setting", "value"), [(n, str(v)) for n, v in report.settings.items()]),
        paragraphs([f"model {report.model}, fingerprint {report.fingerprint}"]),
    ]
    style = CURVES_STYLE + TILES_STYLE + MAP_STYLE
    text = page(f"cgd run {report.run}", sections, style=style, script=MAP_SCRIPT)
    return text.encode("utf-8", "replace").decode()  # names of files need not be UTF-8


_SHEET_WORDS = (
    "{} AP@R first, of equal ones the surest, one of a class while there are classes. Each query "
    "with its nearest pictures and their similarity (cosine)."
)


def _summary(report: RunReport) -> list[str]:
    s, first = report.settings, report.measures[0]
    chosen = f"epoch {report.best_epoch} was the best" if report.best_epoch else "the last was kept"
    return [
        f"{first.name} {percent(first.value)} on {report.what} (95 % interval "
        f"{100 * first.low:.1f} to {100 * first.high:.1f})",
        f"{s.get('backbone')} {s.get('descriptors')}, {s.get('embedding_dim')} dimensions, "
        f"{s.get('image_size')} px; {counted(len(report.epochs) - 1, 'epoch')} in "
        f"{duration(report.seconds)}, {chosen}; trained on the folder {report.data}",
    ]


def _recall_notes(report: RunReport) -> list[str]:
    result = report.result
    how = "all against all without self"
    if report.in_gallery:
        how = f"each searched in a gallery of {counted(result.gallery, 'picture')}"
    lines = [
        f"{counted(result.queries, 'query', 'queries')} of "
        f"{counted(result.labels, 'class', 'classes')}, {how}. In brackets the 95 % "
        "interval, a bootstrap over classes: how far other classes of this kind may differ; "
        "training again differs, too."
    ]
    if report.what == "train":
        lines.append("These are the pictures trained on: new ones will be found less well.")
    if result.without_partner:
        lines.append(
            f"{counted(result.without_partner, 'query has', 'queries have')} no partner: "
            "misses for Recall, left out of mAP@R."
        )
    if result.skipped:
        lines.append(f"{counted(len(result.skipped), 'picture')} could not be read.")
    return lines


def _curves(report: RunReport) -> Iterator[str]:
    trained = [e for e in report.epochs if e.epoch > 0]
    judged = [(e.epoch, e.evaluation) for e in trained if e.evaluation is not None]
    before = next((e.evaluation for e in report.epochs if e.epoch == 0 and e.evaluation), None)
    yield line_chart(
        f"Recall@1 and mAP@R on {report.judged_on}",
        [
            ("Recall@1", [(x, r.recall[1]) for x, r in judged]),
            ("mAP@R", [(x, r.map_at_r) for x, r in judged if r.map_at_r is not None]),
        ],
        percent,
        shares=True,
        reference=("Recall@1 before training", before.recall[1]) if before else None,
    )
    for name, values in _series(trained):
        title, shares = _CURVES.get(name, name.replace("_", " ")), name in _SHARES
        yield line_chart(title, [(title, values)], percent if shares else plain, shares=shares)


def _series(epochs: Sequence[EpochReport]) -> Iterator[tuple[str, list[tuple[float, float]]]]:
    """Every number that epochs report, also one that this page has not heard of."""
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in _CURVES}
    for epoch in epochs:
        for field in fields(epoch):
            value = getattr(epoch, field.name)
            if field.name in _NO_CURVES:
                continue
            parts = value if isinstance(value, dict) else {field.name: value}
            for name, number in parts.items():
                if isinstance(number, int | float) and not isinstance(number, bool):
                    found.setdefault(str(name), []).append((epoch.epoch, float(number)))
    return ((name, values) for name, values in found.items() if values)


def _branches(report: RunReport) -> list[str]:
    rows = [
        (f"{b.letter} alone", b.alone.value, b.alone.low, b.alone.high) for b in report.branches
    ]
    rows += [
        (f"without {b.letter}", b.without.value, b.without.low, b.without.high)
        for b in report.branches
        if b.without is not None
    ]
    words = [_branch_words(b) for b in report.branches]
    if report.branch_queries < report.result.queries:
        words.append(f"Measured on {report.branch_queries} of {report.result.queries} queries.")
    return [
        paragraphs(["Recall@1 by the columns of one branch, and by all others."]),
        interval_bars(rows),
        paragraphs(words),
    ]


def _branch_words(branch: BranchRecall) -> str:
    start = f"{branch.letter} is {branch.name}"
    if branch.loss is None:
        return f"{start}, the only branch."
    loss = branch.loss
    costs = "costs" if loss.value >= 0 else "gains"
    chance = ", which may be chance" if loss.low <= 0 <= loss.high else ""
    return (
        f"{start}; leaving it out {costs} {abs(100 * loss.value):.1f} points{chance} (95 % "
        f"interval of the cost {100 * loss.low:+.1f} to {100 * loss.high:+.1f})."
    )


def _map_words(report: RunReport) -> list[str]:
    x, y = report.plane
    return [
        f"{counted(len(report.points), 'query', 'queries')} on the first two principal "
        f"components, which hold {100 * x:.0f} % and {100 * y:.0f} % of the variance: what "
        "lies apart here is apart, what lies together need not be. A dot: its nearest picture "
        "has its label; a cross: it has not. Point at one, or use Tab, then arrow or page keys, to "
        "see it. Colours repeat among classes."
    ]
