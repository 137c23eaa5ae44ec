"""Job: a foreign weights file becomes one of ours, with nothing lost in silence; and back."""

from cgdcli.conversion.backwards import export_weights
from cgdcli.conversion.convert import convert_weights
from cgdcli.conversion.plan import plan_conversion

__all__ = ["convert_weights", "export_weights", "plan_conversion"]
