"""What a file is, by its content: a checkpoint, a run, an index or foreign weights."""

from pathlib import Path

from cgdcli.errors import CheckpointError, ConfigError, IndexFileError
from cgdcli.index.milvus.address import milvus_address
from cgdcli.index.records import index_path, sidecar
from cgdcli.index.remote import fetch_index
from cgdcli.index.shards import parts_meant
from cgdcli.inspection.anomalies import Scan, notes_on_values, tensor_anomalies
from cgdcli.inspection.indexes import inspect_index
from cgdcli.inspection.pictures import OnChecked
from cgdcli.inspection.weights import PROFILER, OpenedWeights, key_groups, open_weights
from cgdcli.remote import address_of, place_of
from cgdcli.reports.inspection import InspectReport


def inspect_file(
    path: Path | str,
    *,
    keys: bool = False,
    root: Path | None = None,
    verify: bool = False,
    on_progress: OnChecked | None = None,
) -> InspectReport:
    """Say what a file is, by its content, and what is odd about it. Reads the file once.

    Args:
        keys: list every entry of a weights file.
        root: a folder to look for the pictures of an index in first.
        verify: read every picture of an index again.
        on_progress: called while the pictures of an index are looked at.

    Raises:
        CGDError: it is missing, or nothing known here can read it.
        ConfigError: an option is of the other kind of file.
    """
    found = find_file(Path(path))
    if is_index(found):
        if keys:
            raise ConfigError(
                f"--keys lists the tensors of weights, and `{path}` is an index",
                hint=f"list its rows: cgd inspect '{path}' --rows",
            )
        return inspect_index(found, root=root, verify=verify, on_progress=on_progress)
    if verify or root is not None:
        raise ConfigError(
            f"--verify and --root are about the pictures of an index, which `{path}` is not",
            hint="leave them out, or name an index",
        )
    try:
        opened = open_weights(found)
    except CheckpointError:
        from cgdcli.conversion import is_data_base_file

        if not is_data_base_file(found):
            raise
        return _inspect_data_base(found, keys)
    return _inspect_weights(opened, keys, _notes_on_run(Path(path), found))


def find_file(path: Path) -> Path:
    """The file that is meant: of a run its checkpoint, of `feats` feats.npy.

    Raises:
        CheckpointError: there is none.
        IndexFileError: it is in Milvus.
    """
    in_milvus = milvus_address(path)
    if in_milvus is not None:
        raise IndexFileError(
            f"`{in_milvus}` is an index in Milvus, and its files are not here to be looked at",
            hint="inspect the index that was sent; `--rows` prints the table of the one in Milvus",
        )
    path = place_of(path)
    if address_of(path) is not None:
        return fetch_index(path)
    if path.is_dir():
        from cgdcli.weights.sources import run_checkpoint

        if not (path / "last.safetensors").is_file():
            raise CheckpointError(
                f"`{path}` is a folder, and not that of a run: last.safetensors is not in it",
                hint="name a file",
            )
        return run_checkpoint(path)
    if parts_meant(path) is not None:
        return path if is_index(path) else path.with_name(path.name + ".npy")
    found = path if path.exists() else index_path(path)
    if not found.exists() and not (found.suffix == ".npy" and sidecar(found).exists()):
        raise CheckpointError(
            f"`{found}` does not exist; a checkpoint or an index is wanted",
            hint="check the spelling, and the folder you are in",
        )
    return found


def is_index(path: Path) -> bool:
    """Whether a file is half of an index, by its name."""
    return path.suffix in (".npy", ".sqlite")


def _inspect_weights(
    opened: OpenedWeights, keys: bool, more_notes: tuple[str, ...]
) -> InspectReport:
    profiler = [entry.name for entry in opened.entries if entry.group == PROFILER]
    found = Scan.of([t for t in opened.tensors if t.name not in set(profiler)])
    anomalies = tensor_anomalies(found, profiler=profiler, shared=opened.shared)
    return InspectReport(
        opened.path,
        opened.kind,
        opened.facts,
        (*more_notes, *opened.notes, *notes_on_values(found)),
        key_groups(opened.entries),
        opened.entries if keys else (),
        (*opened.findings, *anomalies),
        opened.refusal,
    )


def _inspect_data_base(path: Path, keys: bool) -> InspectReport:
    from cgdcli.inspection.data_bases import inspect_data_base

    if keys:
        raise ConfigError(
            f"--keys lists the tensors of weights, and `{path}` is a data base of embeddings",
            hint="leave out --keys",
        )
    return inspect_data_base(path)


def _notes_on_run(given: Path, found: Path) -> tuple[str, ...]:
    if not given.is_dir():
        return ()
    chosen = "chosen while training" if found.name.startswith("best") else "no best was chosen"
    return (f"of the run {given.name}: {found.name} ({chosen})",)
