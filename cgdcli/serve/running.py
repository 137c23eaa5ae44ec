"""Running the server: listening first, so that the address that is said is the one."""

import asyncio
import contextlib
import signal
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

from cgdcli.config import Device, ServeConfig
from cgdcli.errors import ConfigError, OutputError
from cgdcli.networks import Model

CONNECTIONS = 512
SECONDS_TO_END = 5  # who has sent half a question is not waited for longer


def run_server(
    index: Path | str,
    config: ServeConfig,
    *,
    model: Model = None,
    root: Path | None = None,
    device: Device = Device.auto,
    on_ready: Callable[[str], None] | None = None,
) -> None:
    """Serve until SIGINT or SIGTERM.

    Args:
        on_ready: is told the page's address once it can be asked for.

    Raises:
        ConfigError: the extra `serve` is not installed.
        OutputError: the port is taken, or this machine has no such address.
        CGDError: the index cannot be opened, or its network not be found.
    """
    try:
        import uvicorn

        from cgdcli.serve.app import make_app
        from cgdcli.serve.limits import listens_everywhere
        from cgdcli.serve.searching import Searching
    except ImportError as error:
        raise ConfigError(
            f"a page wants packages that are not installed ({error})",
            hint="pip install 'cgdcli[serve]'",
        ) from error
    with (
        _listening(config) as listener,
        Searching(index, model=model, root=root, device=device, config=config) as searching,
    ):
        port = listener.getsockname()[1]
        shown = "127.0.0.1" if listens_everywhere(config.host) else config.host
        address = f"http://{f'[{shown}]' if ':' in shown else shown}:{port}/"
        settings = uvicorn.Config(
            _without_traceback(make_app(searching)),
            log_level="warning",
            access_log=False,
            server_header=False,
            limit_concurrency=CONNECTIONS,
            timeout_graceful_shutdown=SECONDS_TO_END,
        )
        if on_ready is not None:
            on_ready(address)  # who asks now waits in the socket's queue
        told: list[int] = []

        class Server(uvicorn.Server):
            def handle_exit(self, sig: int, frame: Any) -> None:
                told.append(sig)
                super().handle_exit(sig, frame)

        Server(settings).run(sockets=[listener])
        # Passed on already, unless it is ignored, as by what a shell starts in the background.
        if signal.SIGINT in told:
            raise KeyboardInterrupt
        for number in told[:1]:
            signal.raise_signal(number)


def _without_traceback(app: Any) -> Any:
    """A question that is called off since the server ends is no failure of the application."""

    async def called(scope: Any, receive: Any, send: Any) -> None:
        with contextlib.suppress(asyncio.CancelledError):
            await app(scope, receive, send)

    return called


def _listening(config: ServeConfig) -> socket.socket:
    try:
        family, kind, _, _, place = socket.getaddrinfo(
            config.host, config.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listener = socket.socket(family, kind)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(place)
        listener.listen(256)
    except OSError as error:
        raise OutputError(
            f"cannot listen at {config.host}:{config.port}: {error.strerror or error}",
            hint="choose another --port (0: one that is free), or the --host of this machine",
        ) from error
    return listener
