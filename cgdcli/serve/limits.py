"""Who may ask, how much and how often, before anything is done."""

import ipaddress
import socket
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable

CLIENTS_REMEMBERED = 4_096
BURST = 4


class RateLimit:
    """A bucket of tokens for each client: `rate` come a second, at most `BURST` times as many wait.

    Args:
        clock: seconds, rising.
    """

    def __init__(self, rate: float, clock: Callable[[], float] = time.monotonic) -> None:
        self.rate, self.clock = rate, clock
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def seconds_to_wait(self, client: str) -> float:
        """0, and a token is taken; else how long it takes until one is there."""
        now = self.clock()
        tokens, then = self._buckets.pop(client, (max(1.0, BURST * self.rate), now))
        tokens = min(max(1.0, BURST * self.rate), tokens + (now - then) * self.rate)
        wait = 0.0 if tokens >= 1 else (1 - tokens) / self.rate
        self._buckets[client] = (tokens if wait else tokens - 1, now)
        while len(self._buckets) > CLIENTS_REMEMBERED:
            self._buckets.popitem(last=False)
        return wait


def is_known_host(header: str, allowed: frozenset[str], *, numbers: bool = False) -> bool:
    """Whether a request's Host is one that this server goes by.

    A page of elsewhere can point a name of its own at this machine and would then read all answers
    (DNS rebinding); its requests come with that name.

    Args:
        numbers: any IP address is one: it has no name that could be pointed elsewhere.
    """
    name = header.rpartition(":")[0] if header.rpartition(":")[2].isdigit() else header
    name = name.strip("[]").lower()
    return name in allowed or (numbers and _is_address(name))


def known_hosts(host: str, more: Iterable[str] = ()) -> frozenset[str]:
    """Names of a server that listens at `host`: the loopback's, the machine's, and `more`."""
    own = {"localhost", "127.0.0.1", "::1", host.lower(), *(name.lower() for name in more)}
    if listens_everywhere(host):
        machine = socket.gethostname().lower()
        own |= {machine, f"{machine}.local"}
    return frozenset(own - {""})


def is_loopback(host: str) -> bool:
    """Whether nobody but this machine reaches a server that listens at `host`."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def listens_everywhere(host: str) -> bool:
    """Whether it is the address that stands for all of them, however it is written: 0, ::0."""
    try:
        return ipaddress.ip_address(host).is_unspecified
    except ValueError:
        return bool(host) and not host.strip("0.")
