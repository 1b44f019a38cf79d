"""The embedded stack as a whole: data survives, nothing is left behind, and a part that fails is named."""

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import psycopg
import pytest
from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic  # type: ignore[attr-defined]

from runtime.local.stack import PARTS
from tests.support.servers import ROOT, running
from tests.support.waiting import eventually

ALL = ",".join(PARTS)
Stack = subprocess.Popen[str]


def runs(process: psutil.Process) -> bool:
    """What has ended and waits for its parent to notice (the machine's first process, of an orphan) runs no more."""
    try:
        return bool(process.is_running() and process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def start(data: Path, only: str = ALL) -> Stack:
    command = [sys.executable, "-m", "runtime.local", "--data", str(data), "--only", only]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def until_ready(stack: Stack) -> dict[str, str]:
    assert stack.stdout is not None
    endpoints: dict[str, str] = {}
    for line in stack.stdout:
        if '"ready"' in line:
            return endpoints
        endpoints |= json.loads(line)
    raise AssertionError(stack.communicate()[1])


@pytest.fixture
def stack(tmp_path: Path) -> Iterator[Stack]:
    """All four parts; whatever the test did to them, they are gone afterwards."""
    process = start(tmp_path)
    yield process
    process.terminate()
    process.communicate(timeout=60)


def test_a_second_start_on_the_same_directory_finds_all_data(tmp_path: Path) -> None:
    with running("postgres", "kafka", data=tmp_path) as first:
        with psycopg.connect(first["postgres_url"]) as connection:
            connection.execute("CREATE TABLE kept AS SELECT 'row' AS what")
        admin = AdminClient({"bootstrap.servers": first["kafka_bootstrap"]})
        admin.create_topics([NewTopic("kept", 1)])["kept"].result(10)
        producer = Producer({"bootstrap.servers": first["kafka_bootstrap"], "acks": "all"})
        producer.produce("kept", b"record")
        assert producer.flush(10) == 0
    with running("postgres", "kafka", data=tmp_path) as second:
        assert second != first, "ports are chosen anew: nothing of them is kept"
        with psycopg.connect(second["postgres_url"]) as connection:
            assert connection.execute("SELECT what FROM kept").fetchall() == [("row",)]
        consumer = Consumer({"bootstrap.servers": second["kafka_bootstrap"], "group.id": "reader"})
        consumer.assign([TopicPartition("kept", 0, 0)])
        message = consumer.poll(10)
        assert message is not None
        assert message.value() == b"record"
        consumer.close()


def test_the_supervisor_killed_leaves_no_process_and_the_directory_can_be_used_again(
    stack: Stack, tmp_path: Path
) -> None:
    first = until_ready(stack)
    with psycopg.connect(first["postgres_url"]) as connection:
        connection.execute("CREATE TABLE kept AS SELECT 1 AS one")
    family = psutil.Process(stack.pid).children(recursive=True)
    assert {"java", "postgres", "temporal"} <= {process.name() for process in family}
    stack.kill()
    # At once: it waits until the guardian of the killed one has ended the servers.
    with running("postgres", "kafka", "temporal", data=tmp_path) as second:
        assert [process for process in family if runs(process)] == []
        with psycopg.connect(second["postgres_url"]) as connection:
            assert connection.execute("SELECT one FROM kept").fetchall() == [(1,)]


def test_every_part_listens_on_the_loopback_address_only(stack: Stack) -> None:
    endpoints = until_ready(stack)
    family = psutil.Process(stack.pid).children(recursive=True)
    sockets = [socket for process in family for socket in process.net_connections("inet")]
    listening = {socket.laddr for socket in sockets if socket.status == psutil.CONN_LISTEN}
    assert len(listening) >= len(endpoints)
    assert {address.ip for address in listening} == {"127.0.0.1"}


def test_a_directory_in_use_is_refused_in_one_sentence(tmp_path: Path) -> None:
    with running("postgres", data=tmp_path):
        second = start(tmp_path, "postgres")
        _, errors = second.communicate(timeout=30)
    assert second.returncode == 1
    assert errors == f"another stack runs on {tmp_path}: stop it first, or choose another directory\n"


def test_a_part_that_does_not_start_is_named_with_its_log_and_the_others_stop(tmp_path: Path) -> None:
    broken = tmp_path / "kafka" / "log"
    broken.mkdir(parents=True)
    (broken / "meta.properties").write_text("version=1\ncluster.id=not-ours\nnode.id=7\n")
    stack = start(tmp_path, "kafka,postgres")
    _, errors = stack.communicate(timeout=60)
    assert stack.returncode == 1
    assert errors.startswith("kafka: exited with code 1 before it was ready\n--- last lines of the log of kafka ---\n")
    assert "Stored node id 7 doesn't match" in errors
    assert not (tmp_path / "postgres" / "pgdata" / "postmaster.pid").exists()


def test_a_part_that_dies_stops_the_stack_and_is_named(stack: Stack) -> None:
    until_ready(stack)
    (temporal,) = [process for process in psutil.Process(stack.pid).children() if process.name() == "temporal"]
    temporal.kill()
    _, errors = stack.communicate(timeout=60)
    assert stack.returncode == 1
    assert errors.startswith("temporal: exited with code -9")


def test_sigterm_stops_everything_cleanly(stack: Stack) -> None:
    until_ready(stack)
    family = psutil.Process(stack.pid).children(recursive=True)
    stack.terminate()
    assert stack.wait(60) == 0
    assert [process for process in family if runs(process)] == []


def test_sigterm_while_starting_stops_everything_too(tmp_path: Path) -> None:
    stack = start(tmp_path)
    family = eventually(lambda: psutil.Process(stack.pid).children(recursive=True), within_s=30)
    stack.send_signal(signal.SIGTERM)
    assert stack.wait(60) == 0
    assert [process for process in family if runs(process)] == []


def test_postgres_starts_below_a_directory_that_only_its_owner_enters(tmp_path: Path) -> None:
    private = tmp_path / "private"
    private.mkdir(mode=0o700)
    with (
        running("postgres", data=private / "data") as endpoints,
        psycopg.connect(endpoints["postgres_url"]) as connection,
    ):
        assert connection.execute("SHOW fsync").fetchone() == ("on",)
        assert connection.execute("SHOW server_encoding").fetchone() == ("UTF8",)
    assert private.stat().st_mode & 0o777 == 0o700
