"""Which reading of a foreign file is right? Measured on pictures, never guessed.

With the old code's own embeddings the right reading reproduces them: that proves a conversion.
With labels alone the right one is likely the one that retrieves best: that is evidence, with a
margin and its uncertainty.
"""

from dataclasses import replace
from itertools import product
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cgdcli.config import CGDConfig, ConvertConfig, TrialConfig
from cgdcli.conversion.bench import Bench, Rows, readable, sample_classes, spread
from cgdcli.conversion.convert import as_checkpoint
from cgdcli.conversion.old_rows import SAME_DIFFERENCE, OldRows, read_old_rows
from cgdcli.conversion.plan import prepare
from cgdcli.conversion.readings import Axes, axes_of, options_of, reading_of
from cgdcli.datasets.reading import read_evaluation_data
from cgdcli.errors import DatasetError, MismatchError
from cgdcli.index.exact import nearest
from cgdcli.judging.intervals import class_interval
from cgdcli.model.cgd import meta_model
from cgdcli.reports import ReadingScore, TrialReport
from cgdcli.streaming import OnProgress
from cgdcli.weights.checkpoint import Checkpoint

# The next reading must be so many times worse than one that is proved.
_FAR = 10
_NEIGHBOURS = 10
_FINALISTS = 5
_REFINEMENTS = 2


def try_readings(
    source: Path | str,
    folder: Path | str | None = None,
    config: ConvertConfig | None = None,
    *,
    against: Path | str | None = None,
    trial: TrialConfig | None = None,
    embedder: Path | str | None = None,
    on_progress: OnProgress | None = None,
) -> TrialReport:
    """Try every reading of a foreign file that `config` leaves open; nothing is written.

    Args:
        folder: class folders; with `against` any folder with the pictures, or None where a data
            base of the reference says where they are.
        against: embeddings that the old code made of the same pictures: see `read_old_rows`.

    Raises:
        CGDError: the file cannot be converted, or the pictures cannot be read.
        MismatchError: `against` does not belong to the pictures or to the network.
    """
    source, trial, said = Path(source), trial or TrialConfig(), config or ConvertConfig()
    checkpoint = as_checkpoint(prepare(source, said, embedder))
    axes = axes_of(checkpoint.config, said, source.name)
    where = None if folder is None else Path(folder)
    if against is not None:
        old = read_old_rows(Path(against), where)
        report = _compare_rows(checkpoint, axes, trial, old, on_progress)
        return replace(report, source=source, folder=where, against=Path(against))
    if where is None:
        raise DatasetError(
            "no pictures to try readings on",
            hint="name a folder of classes: --try DIR, or embeddings: --against FILE",
        )
    report = _judge_by_labels(checkpoint, axes, trial, where, on_progress)
    return replace(report, source=source, folder=where)


def _judge_by_labels(
    checkpoint: Checkpoint,
    axes: Axes,
    trial: TrialConfig,
    folder: Path,
    on_progress: OnProgress | None,
) -> TrialReport:
    """Strides, letters and p at the assumed transform, then transforms at the best of those."""
    table, _ = read_evaluation_data(folder)
    if table.boxes:
        raise DatasetError(
            f"`{folder}` has boxes; readings are tried on whole pictures",
            hint="name a folder of classes, or a table without boxes",
        )
    chosen = sample_classes(table.labels, trial.pictures)
    if not chosen:
        raise DatasetError(
            f"`{folder}` has no class with two pictures, so nothing can be a right answer",
            hint="name a folder of class folders with several pictures each",
        )
    good, skipped = readable([table.paths[i] for i in chosen])
    files = [table.paths[chosen[i]] for i in good]
    labels = np.array([table.labels[chosen[i]] for i in good])
    passes = len(axes.strides) + len(axes.transforms) - 1
    bench = Bench(checkpoint, trial, passes * len(files), on_progress)
    hits: dict[CGDConfig, NDArray[np.float64]] = {}

    def judge(configs: list[CGDConfig]) -> None:
        for config, rows in zip(configs, bench.rows(configs, files), strict=True):
            hits[config] = _hits(rows, labels)

    base = replace(checkpoint.config, transform=axes.transforms[0])
    for stride in axes.strides:
        judge(_heads(replace(base, stride=stride), axes))
    best = max(hits, key=lambda config: hits[config].mean())
    for transform in axes.transforms[1:]:
        judge([replace(best, transform=transform)])
    order = sorted(hits, key=lambda config: -hits[config].mean())
    margin = class_interval(hits[order[0]] - hits[order[1]], labels) if len(order) > 1 else None
    return TrialReport(
        source=Path(),
        folder=folder,
        against=None,
        pictures=len(files),
        classes=len(set(labels)),
        neighbours=None,
        scores=tuple(ReadingScore(reading_of(c), float(hits[c].mean())) for c in order),
        margin=margin.value if margin else None,
        margin_low=margin.low if margin else None,
        margin_high=margin.high if margin else None,
        decided=margin is None or margin.low > 0,
        options=options_of(order[0]),
        skipped=tuple(skipped),
    )


def _compare_rows(
    checkpoint: Checkpoint,
    axes: Axes,
    trial: TrialConfig,
    old: OldRows,
    on_progress: OnProgress | None,
) -> TrialReport:
    """All combinations on a few pictures; the best of them on all."""
    _check_dimension(checkpoint, old)
    picked = spread(len(old.files), trial.pictures)
    good, skipped = readable([old.files[i] for i in picked])
    files = [old.files[picked[i]] for i in good]
    wanted = old.rows[[picked[i] for i in good]]
    few = spread(len(files), trial.grid_pictures)
    grid = list(product(axes.strides, axes.transforms))
    refined = _REFINEMENTS if _has_exponent(checkpoint.config, axes) else 0
    total = (len(grid) + refined) * len(few) + (_FINALISTS + bool(refined)) * len(files)
    bench = Bench(checkpoint, trial, total, on_progress)
    difference: dict[CGDConfig, float] = {}
    for stride, transform in grid:
        configs = _heads(replace(checkpoint.config, stride=stride, transform=transform), axes)
        some = bench.rows(configs, [files[i] for i in few])
        for config, rows in zip(configs, some, strict=True):
            difference[config] = float(_cosine_differences(rows, wanted[few]).mean())
    finalists = sorted(difference, key=lambda config: difference[config])[:_FINALISTS]
    if refined:
        finer = _refined(finalists[0], bench, [files[i] for i in few], wanted[few])
        finalists = list(dict.fromkeys([*finalists, finer]))
    k = min(_NEIGHBOURS, len(files) - 1)
    measured = [(c, _compare(c, bench.rows([c], files)[0], wanted, k)) for c in finalists]
    measured.sort(key=lambda pair: pair[1].mean_difference or 0)
    best = measured[0][0]
    return TrialReport(
        source=Path(),
        folder=None,
        against=None,
        pictures=len(files),
        classes=None,
        neighbours=k,
        scores=tuple(each for _, each in measured),
        margin=None,
        margin_low=None,
        margin_high=None,
        decided=_is_proof([each for _, each in measured]),
        options=options_of(best),
        skipped=tuple(skipped),
    )


def _has_exponent(config: CGDConfig, axes: Axes) -> bool:
    """Whether p is open, and matters to some of the readings."""
    return len(axes.exponents) > 1 and any(set(letters) & set("GW") for letters in axes.letters)


def _refined(config: CGDConfig, bench: Bench, files: list[Path], wanted: Rows) -> CGDConfig:
    """The reading with the p, in hundredths, that comes nearest: a learned p is no round number."""
    for around, step in ((4.5, 0.125), (0.125, 0.01)):
        middle = config.gem_p if around < 1 else 5.5
        tried = np.arange(middle - around, middle + around + step / 2, step)
        configs = [replace(config, gem_p=round(max(1.0, float(p)), 3)) for p in tried]
        configs = list(dict.fromkeys([config, *configs]))
        rows = bench.rows(configs, files)
        means = [float(_cosine_differences(each, wanted).mean()) for each in rows]
        config = configs[int(np.argmin(means))]
    return config


def _heads(config: CGDConfig, axes: Axes) -> list[CGDConfig]:
    """The config with every choice of letters, and of p where it matters."""
    return list(
        dict.fromkeys(
            replace(
                config,
                descriptors=letters,
                gem_p=p if set(letters) & set("GW") else axes.exponents[0],
            )
            for letters in axes.letters
            for p in axes.exponents
        )
    )


def _hits(rows: Rows, labels: NDArray[np.str_]) -> NDArray[np.float64]:
    """For each row 1 if its nearest other row has its label, else 0."""
    _, ids = nearest(rows, rows, 1, exclude=[{i} for i in range(len(rows))])
    hits: NDArray[np.float64] = (labels[ids[:, 0]] == labels).astype(np.float64)
    return hits


def _compare(config: CGDConfig, rows: Rows, wanted: Rows, k: int) -> ReadingScore:
    differences = _cosine_differences(rows, wanted)
    return ReadingScore(
        reading_of(config),
        mean_difference=float(differences.mean()),
        max_difference=float(differences.max()),
        neighbour_agreement=_agreement(rows, wanted, k) if k else None,
    )


def _is_proof(scores: list[ReadingScore]) -> bool:
    """Whether the first reproduces the rows, and the second is far from doing so."""
    first = scores[0]
    assert first.max_difference is not None and first.mean_difference is not None
    if first.max_difference >= SAME_DIFFERENCE:
        return False
    second = scores[1].mean_difference if len(scores) > 1 else None
    return second is None or second >= _FAR * first.mean_difference


def _cosine_differences(rows: Rows, wanted: Rows) -> NDArray[np.float64]:
    """1 - cosine of unit rows, by half their squared distance: exact where they are near."""
    apart = rows.astype(np.float64) - wanted
    halves: NDArray[np.float64] = (apart**2).sum(1) / 2
    return halves


def _agreement(rows: Rows, wanted: Rows, k: int) -> float:
    """Mean share of the `k` nearest other rows that are the same in both."""
    itself = [{i} for i in range(len(rows))]
    _, ours = nearest(rows, rows, k, exclude=itself)
    _, theirs = nearest(wanted, wanted, k, exclude=itself)
    same = [len(set(a) & set(b)) / k for a, b in zip(ours.tolist(), theirs.tolist(), strict=True)]
    return float(np.mean(same))


def _check_dimension(checkpoint: Checkpoint, old: OldRows) -> None:
    given = meta_model(checkpoint.config).embedding_dim
    if old.rows.shape[1] != given:
        raise MismatchError(
            f"the old embeddings have {old.rows.shape[1]} columns, the network gives {given}",
            hint="they were made by another network; find the weights that were saved with them",
        )
