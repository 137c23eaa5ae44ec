"""`cgd serve`: a page to search with."""

from pathlib import Path
from typing import Annotated

from cgdcli.cli.options import (
    DeviceOption,
    IndexModelOption,
    QuietOption,
    RootOption,
    VerboseOption,
    option,
)
from cgdcli.cli.output import Output
from cgdcli.config import Device, ServeConfig
from cgdcli.config.search import MEBIBYTE


def serve(
    index: Annotated[Path, option("--index", help="The index: feats.npy.")],
    host: Annotated[
        str, option(help="Where to listen; 0.0.0.0: everyone who reaches this machine may search.")
    ] = ServeConfig.host,
    names: Annotated[
        list[str] | None,
        option(
            "--allow-name",
            metavar="NAME",
            help="A name that others reach this machine by, such as a proxy's; its own name and "
            "its addresses go without saying.",
        ),
    ] = None,
    port: Annotated[int, option(help="0: one that is free.")] = ServeConfig.port,
    model: IndexModelOption = None,
    root: RootOption = None,
    device: DeviceOption = Device.auto,
    most_hits: Annotated[
        int, option("--max-hits", help="Hits of one answer; more are refused.")
    ] = ServeConfig.most_hits,
    upload: Annotated[
        float, option("--max-upload", metavar="MB", help="Of a picture that is asked with.")
    ] = ServeConfig.upload / MEBIBYTE,
    rate: Annotated[
        float, option(help="Searches a second of one client, in the mean.")
    ] = ServeConfig.rate,
    open_page: Annotated[bool, option("--open", help="Open the page in the browser.")] = False,
    quiet: QuietOption = False,
    verbose: VerboseOption = False,
) -> None:
    """Serve a page to search an index with: drop, paste or click a picture. Ctrl-C ends it.

    Only pictures of the index are shown, what is dropped is stored nowhere, and nobody else can
    reach it unless --host says so. The same over HTTP as JSON: see /api. Extra `serve`.

    Example: cgd serve --index feats.npy --open
    """
    from cgdcli.serve.limits import is_loopback
    from cgdcli.serve.running import run_server

    out = Output(quiet=quiet, verbose=verbose)
    config = ServeConfig(
        host,
        port,
        most_hits=most_hits,
        upload=round(upload * MEBIBYTE),
        rate=rate,
        names=tuple(names or ()),
    )

    def ready(address: str) -> None:
        out.lines([f"{address}\n"])
        out.say("Ctrl-C ends it")
        if not is_loopback(host):
            out.warn(
                f"it listens at {host}, without a password: whoever reaches this machine can "
                "search this index and see its pictures"
            )
        if open_page:
            import webbrowser

            if not webbrowser.open(address):
                out.warn(f"no browser could be opened: go to {address}")

    run_server(index, config, model=model, root=root, device=device, on_ready=ready)
