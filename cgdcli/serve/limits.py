"""Who may ask, how much and how often, before anything is done."""

import ipaddress
import time
from collections import OrderedDict
from collections.abc import Callable

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


def is_known_host(header: str, allowed: frozenset[str]) -> bool:
    """Whether a request's Host is one that this server goes by.

    A page of elsewhere can point a name of its own at 127.0.0.1 and would then read all answers
    (DNS rebinding); its requests come with that name.
    """
    name = header.rpartition(":")[0] if header.rpartition(":")[2].isdigit() else header
    return name.strip("[]").lower() in allowed


def known_hosts(host: str) -> frozenset[str]:
    """Names of a server that listens at `host`; empty: any, since it listens everywhere."""
    if listens_everywhere(host):
        return frozenset()
    return frozenset({"localhost", "127.0.0.1", "::1", host.lower()})


def listens_everywhere(host: str) -> bool:
    """Whether it is the address that stands for all of them, however it is written: 0, ::0."""
    try:
        return ipaddress.ip_address(host).is_unspecified
    except ValueError:
        return bool(host) and not host.strip("0.")
