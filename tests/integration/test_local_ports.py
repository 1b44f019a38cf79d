"""A port that somebody took between our choice and the server's bind: the server starts on another one."""

import socket
from pathlib import Path

import pytest

from runtime.local import ports
from runtime.local.clickhouse_server import ClickhouseServer
from runtime.local.kafka import KafkaServer
from runtime.local.postgres import PostgresServer
from runtime.local.process import Guardian
from runtime.local.temporal import TemporalServer

SERVERS = {"kafka": KafkaServer, "postgres": PostgresServer, "clickhouse": ClickhouseServer, "temporal": TemporalServer}


@pytest.mark.parametrize("name", SERVERS)
async def test_a_server_whose_port_was_taken_meanwhile_starts_on_another(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    free_ports, offered = ports.free_ports, list[list[int]]()
    guard = Guardian()
    server = SERVERS[name](data=tmp_path / "data", logs=tmp_path / "logs", guard=guard)
    with socket.socket() as other:
        other.bind((ports.HOST, 0))
        other.listen()

        def offers(count: int) -> list[int]:
            found = free_ports(count)
            offered.append(found if offered else [*found[:-1], other.getsockname()[1]])
            return offered[-1]

        monkeypatch.setattr(ports, "free_ports", offers)
        try:
            await server.start()
            assert len(offered) == 2
            assert server.child is not None
            assert server.child.exit_code is None
        finally:
            await server.stop()
            guard.close()


def test_no_port_is_given_twice() -> None:
    given = [port for _ in range(40) for port in ports.free_ports(25)]
    assert len(set(given)) == 1000
