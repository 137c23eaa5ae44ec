"""Why has my file 181 entries? convert_old_checkpoint.py OLD.pth [LETTERS]

Converts a checkpoint of the reference and says what became of each kind of entry.
"""

import sys
from collections import Counter

from cgdcli import ConvertConfig, convert_weights, load_model, profile_model


def main(old: str, letters: str | None = None) -> None:
    report = convert_weights(old, config=ConvertConfig(letters), force=True)
    print(f"{report.source_entries} entries in {old}")
    for reason, count in Counter(report.dropped.values()).items():
        print(f"{count} dropped: {reason}")
    print(f"{report.written_entries} written to {report.target}")
    for assumption in report.assumed:
        print(f"assumed: {assumption}")
    print(f"{profile_model(load_model(report.target)).counts.parameters} parameters")


if __name__ == "__main__":
    main(*sys.argv[1:])
