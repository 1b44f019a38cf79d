"""A unit test that opens a socket is no unit test."""

import socket
from typing import NoReturn

import pytest

from tests.vectors.census import census


@pytest.fixture(autouse=True)
def no_sockets(monkeypatch: pytest.MonkeyPatch) -> None:
    """Connecting, binding and resolving names fail. (Pairs do not: every event loop makes one for itself.)"""

    def refuse(*args: object, **kwargs: object) -> NoReturn:
        raise AssertionError("a unit test must not use the network: make it an integration test")

    for method in ("connect", "connect_ex", "bind"):
        monkeypatch.setattr(socket.socket, method, refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setattr(socket, "create_connection", refuse)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, exitstatus: int) -> None:
    """How the published cases stand, once their tests have run and passed."""
    if exitstatus == 0 and any("test_vectors_" in one.nodeid for one in terminalreporter.stats.get("passed", ())):
        terminalreporter.write_line(str(census()))
