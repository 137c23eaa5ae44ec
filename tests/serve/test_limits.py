"""Who may ask, and how often."""

import pytest

from cgdcli.serve import limits
from cgdcli.serve.limits import RateLimit, is_known_host, known_hosts


def test_a_burst_then_the_rate():
    now = [0.0]
    limit = RateLimit(2.0, clock=lambda: now[0])
    assert [limit.seconds_to_wait("a") for _ in range(8)] == [0.0] * 8
    assert limit.seconds_to_wait("a") == pytest.approx(0.5)
    assert limit.seconds_to_wait("b") == 0.0  # another client
    now[0] = 0.5
    assert limit.seconds_to_wait("a") == 0.0
    assert limit.seconds_to_wait("a") > 0
    now[0] = 1_000
    assert [limit.seconds_to_wait("a") for _ in range(9)][-1] > 0  # no more is saved up


def test_only_so_many_clients_are_remembered(monkeypatch):
    monkeypatch.setattr(limits, "CLIENTS_REMEMBERED", 3)
    limit = RateLimit(1.0, clock=lambda: 0.0)
    for client in "abcdef":
        limit.seconds_to_wait(client)
    assert len(limit._buckets) == 3


@pytest.mark.parametrize(
    ("header", "known"),
    [
        ("localhost", True),
        ("LOCALHOST:8000", True),
        ("127.0.0.1:80", True),
        ("[::1]:8000", True),
        ("[::1]", True),
        ("pictures.lan:80", True),
        ("evil.example", False),
        ("localhost.evil.example:80", False),
        ("", False),
    ],
)
def test_names(header, known):
    assert is_known_host(header, known_hosts("Pictures.lan")) is known


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "0", "::0", "0:0:0:0:0:0:0:0"])
def test_everywhere_goes_by_numbers_and_its_own_names(host, monkeypatch):
    monkeypatch.setattr(limits.socket, "gethostname", lambda: "Atelier")
    assert limits.listens_everywhere(host)
    hosts = known_hosts(host, ["Pictures.lan"])
    known = ["atelier:8000", "atelier.local", "192.168.1.5:8000", "[fe80::1]:80", "pictures.lan"]
    for header in [*known, "localhost"]:
        assert is_known_host(header, hosts, numbers=True), header
    for header in ("evil.example", "192.168.1.5.evil.example", "", ":80"):
        assert not is_known_host(header, hosts, numbers=True), header


def test_a_number_is_no_name_of_one_that_listens_at_one_address():
    assert not is_known_host("10.0.0.9:80", known_hosts("10.0.0.1"))
    assert is_known_host("10.0.0.1:80", known_hosts("10.0.0.1"))
    assert "" not in known_hosts("")


def test_who_is_reached_by_this_machine_alone():
    for host in ("127.0.0.1", "127.8.0.1", "::1", "localhost", "LocalHost"):
        assert limits.is_loopback(host), host
    for host in ("0.0.0.0", "::", "10.0.0.1", "pictures.lan", ""):
        assert not limits.is_loopback(host), host
