"""Our own names, as in a `torch.save` of a `CGD`'s `state_dict`."""

from collections.abc import Collection

from cgdcli.weights.formats import Format


def _recognises(names: Collection[str]) -> bool:
    return "backbone.conv1.weight" in names


def _rename(name: str) -> str | None:
    return name if name.startswith(("backbone.", "branches.", "classifier.")) else None


OWN = Format("cgd", _recognises, _rename, lambda name: None)
