"""Job: a foreign weights file becomes one of ours, with nothing lost in silence; and back."""

from cgdcli.conversion.backwards import export_weights
from cgdcli.conversion.convert import convert_weights
from cgdcli.conversion.data_base import convert_data_base, is_data_base_file
from cgdcli.conversion.plan import plan_conversion
from cgdcli.conversion.trial import try_readings

__all__ = [
    "convert_data_base",
    "convert_weights",
    "export_weights",
    "is_data_base_file",
    "plan_conversion",
    "try_readings",
]
