"""Job: what is this file, what is odd about it, and how do two of them differ?"""

from cgdcli.inspection.comparison import compare_files
from cgdcli.inspection.files import inspect_file
from cgdcli.inspection.tables import (
    index_rows,
    key_rows,
    rows_as_csv,
    rows_as_json_lines,
    rows_as_tsv,
)

__all__ = [
    "compare_files",
    "index_rows",
    "inspect_file",
    "key_rows",
    "rows_as_csv",
    "rows_as_json_lines",
    "rows_as_tsv",
]
