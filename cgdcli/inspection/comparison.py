"""How two files differ: two networks, two indexes, or whether an index comes from a model."""

from pathlib import Path

from cgdcli.errors import CheckpointError, IndexFileError, MismatchError
from cgdcli.inspection.differences import Sums, compare_tensors, config_differences
from cgdcli.inspection.files import find_file, is_index
from cgdcli.inspection.index_comparison import compare_indexes
from cgdcli.inspection.indexes import open_parts
from cgdcli.inspection.weights import GROUPS, OTHER, OpenedWeights, group_of, open_weights, place_of
from cgdcli.reports.inspection import (
    Comparison,
    OriginComparison,
    Refusal,
    WeightsComparison,
)
from cgdcli.words import counted


def compare_files(a: Path | str, b: Path | str, *, keys: bool = False) -> Comparison:
    """Compare two weights files, two indexes, or a weights file and an index.

    Args:
        keys: of two weights files, list every entry.

    Raises:
        CGDError: one of them cannot be read.
        MismatchError: an array alone says nothing of its model; see also `compare_indexes`.
    """
    one, other = find_file(Path(a)), find_file(Path(b))
    indexes = (is_index(one), is_index(other))
    if all(indexes):
        _refuse_keys(keys)
        return compare_indexes(one, other)
    if not any(indexes):
        return compare_weights(_open(one), _open(other), keys=keys)
    _refuse_keys(keys)
    weights, index = (other, one) if indexes[0] else (one, other)
    return compare_origin(_open(weights), index)


def compare_weights(a: OpenedWeights, b: OpenedWeights, *, keys: bool = False) -> WeightsComparison:
    """Two networks under our names; what a conversion leaves out is counted, not compared."""
    of_a, of_b = a.ours(), b.ours()
    common = sorted((name for name in of_a if name in of_b), key=place_of)
    alike = [name for name in common if of_a[name].shape == of_b[name].shape]
    groups: dict[str, Sums] = {}
    entries = []
    total = Sums()
    for name in alike:
        sums = compare_tensors(of_a[name], of_b[name])
        group = group_of(name)
        groups[group] = groups.get(group, Sums()) + sums
        total += sums
        if keys:
            entries.append(sums.report(name))
    prints = (a.fingerprint, b.fingerprint)
    return WeightsComparison(
        a=a.path,
        b=b.path,
        kinds=(a.kind, b.kind),
        fingerprints=prints,
        same_embeddings=None if None in prints else prints[0] == prints[1],
        config=config_differences(
            a.config.to_dict() if a.config else None, b.config.to_dict() if b.config else None
        ),
        only_in_a=tuple(name for name in of_a if name not in of_b),
        only_in_b=tuple(name for name in of_b if name not in of_a),
        shapes={n: (of_a[n].shape, of_b[n].shape) for n in common if n not in set(alike)},
        dtypes={
            n: (of_a[n].dtype, of_b[n].dtype) for n in common if of_a[n].dtype != of_b[n].dtype
        },
        groups=tuple(groups[n].report(n) for n in (*GROUPS, OTHER) if n in groups),
        total=total.report("all"),
        entries=tuple(entries),
        notes=(*_notes("A", a), *_notes("B", b)),
        refusal=a.refusal or b.refusal,
    )


def compare_origin(weights: OpenedWeights, index: Path) -> OriginComparison:
    """Whether an index was made by a model, by their fingerprints.

    Raises:
        MismatchError: the index, or the weights file, says nothing of that.
    """
    opened = open_parts(index)
    if opened.table is None:
        raise MismatchError(
            f"`{opened.path}` is an array alone; no table says which model made it",
            hint="copy the .sqlite that was beside it, or embed again",
        )
    header = opened.table.header
    opened.table.close()
    recorded = str(header.model.get("fingerprint") or "")
    if not recorded:
        raise MismatchError(
            f"`{opened.path}` was converted and does not record which model made it",
            hint="convert it again with --model",
        )
    if weights.fingerprint is None:
        raise MismatchError(
            f"`{weights.path}` has no fingerprint to compare with that of `{opened.path}`: "
            f"{next(iter(weights.notes), 'it does not convert')}",
            hint=f"see what is wrong with it: cgd inspect '{weights.path}'",
        )
    belongs = recorded == weights.fingerprint
    mismatch = MismatchError(
        f"`{opened.path}` was not made by `{weights.path}`: its model has the fingerprint "
        f"{recorded[:12]}, this one {weights.fingerprint[:12]}",
        hint=f"its model was {header.model.get('path') or header.model.get('source')}",
    )
    return OriginComparison(
        weights=weights.path,
        index=opened.path,
        fingerprints=(weights.fingerprint, recorded),
        belongs=belongs,
        config=config_differences(
            weights.config.to_dict() if weights.config else None, header.model.get("config")
        ),
        notes=_notes("", weights),
        refusal=weights.refusal or opened.refusal or (None if belongs else Refusal.of(mismatch)),
    )


def _notes(which: str, weights: OpenedWeights) -> tuple[str, ...]:
    """What of a file is not compared, or is compared by an assumption."""
    foreign = [entry for entry in weights.entries if entry.status is not None]
    left_out = [entry for entry in foreign if entry.becomes is None]
    notes = []
    if left_out:
        notes.append(
            f"{counted(len(left_out), 'entry', 'entries')} of {which or weights.path} without a "
            f"place here ({left_out[0].name} ...), not compared"
        )
    if foreign:
        notes.append(
            f"{which or weights.path} is compared as cgd convert-weights '{weights.path}' would "
            "read it"
        )
    return tuple(notes)


def _open(path: Path) -> OpenedWeights:
    try:
        return open_weights(path)
    except CheckpointError:
        from cgdcli.conversion import is_data_base_file

        if not is_data_base_file(path):
            raise
        raise MismatchError(
            f"`{path}` is a data base of the reference; weights and indexes can be compared",
            hint=f"make an index of it first: cgd convert-weights '{path}'",
        ) from None


def _refuse_keys(keys: bool) -> None:
    if keys:
        raise IndexFileError(
            "--keys lists the tensors of weights, and an index has none",
            hint="leave out --keys, or name two weights files",
        )
