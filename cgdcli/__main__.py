"""`python -m cgdcli` is `cgd`."""

from cgdcli.cli import run

if __name__ == "__main__":
    run()
