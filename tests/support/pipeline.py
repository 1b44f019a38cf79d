"""The parts behind the API, for tests of the whole path: migrated servers, a worker process, the log itself."""

import asyncio
import contextlib
import http
import os
import signal
import struct
import subprocess
import sys
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.record.default_records import DefaultRecordBase
from aiokafka.record.util import calc_crc32c

from runtime.local.ports import free_ports
from tests.support.servers import ROOT

STOP_WITHIN_S = 20


def settings_of(endpoints: Mapping[str, str], data: Path, **more: str) -> dict[str, str]:
    """The environment under which every process of a test runs."""
    return {
        "METERSTREAM_KAFKA_BOOTSTRAP": endpoints["kafka_bootstrap"],
        "METERSTREAM_POSTGRES_URL": endpoints["postgres_url"],
        "METERSTREAM_CLICKHOUSE_URL": endpoints["clickhouse_url"],
        "METERSTREAM_WORKER_DATA_DIR": str(data / "worker"),
        "METERSTREAM_WORKER_SESSION_TIMEOUT_S": "6",
        "METERSTREAM_WORKER_HEARTBEAT_INTERVAL_S": "1",
        "METERSTREAM_CLOSING_CUT_MIN_INTERVAL_S": "0",
        **more,
    }


def command(environ: Mapping[str, str], *arguments: str) -> None:
    """Run `meterstream ARGUMENTS` to its end; it must succeed."""
    subprocess.run(
        [sys.executable, "-m", "cli.main", *arguments], cwd=ROOT, env={**os.environ, **environ}, check=True, timeout=120
    )


class Worker:
    """A worker process of one role, with its log in a file and its health on a port of its own."""

    def __init__(self, environ: Mapping[str, str], role: str, log: Path) -> None:
        (self.port,) = free_ports(1)
        self.log = log
        with log.open("ab") as sink:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "cli.main", "worker", "--role", role],
                cwd=ROOT,
                env={**os.environ, **environ, "METERSTREAM_WORKER_HEALTH_PORT": str(self.port)},
                stdout=sink,
                stderr=sink,
            )

    @property
    def exit_code(self) -> int | None:
        return self._process.poll()

    def is_ready(self) -> bool:
        """Whether `/readyz` says so."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/readyz", timeout=2) as answer:
                return bool(answer.status == http.HTTPStatus.OK)
        except OSError:
            return False

    def metric(self, name: str) -> float:
        """The value of a metric without labels."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/metrics", timeout=2) as answer:
            lines = answer.read().decode().splitlines()
        return float(next(line.split()[1] for line in lines if line.startswith(f"{name} ")))

    def signal(self, number: signal.Signals) -> None:
        self._process.send_signal(number)

    def kill(self) -> None:
        self._process.kill()
        self._process.wait(STOP_WITHIN_S)

    def stop(self) -> int:
        """SIGTERM, and the exit code."""
        self._process.send_signal(signal.SIGTERM)
        return self._process.wait(STOP_WITHIN_S)


@contextlib.contextmanager
def worker(environ: Mapping[str, str], role: str, log: Path) -> Iterator[Worker]:
    running = Worker(environ, role, log)
    try:
        yield running
    finally:
        if running.exit_code is None:
            running.kill()


Record = tuple[int, bytes, Sequence[tuple[str, bytes]]]


async def produce(bootstrap: str, topic: str, records: Sequence[Record], key: bytes | None = None) -> None:
    """Each record (partition, value, headers) as one message, acknowledged by the log."""
    producer = AIOKafkaProducer(
        bootstrap_servers=bootstrap, acks="all", enable_idempotence=True, max_request_size=20 << 20
    )
    await producer.start()
    try:
        sends = [
            await producer.send(topic, value, key, partition, headers=list(headers))
            for partition, value, headers in records
        ]
        await asyncio.gather(*sends)
    finally:
        await producer.stop()


async def read_topic(bootstrap: str, topic: str, partitions: int) -> list[Any]:
    """Every record that the topic holds now, by partition and offset."""
    consumer = AIOKafkaConsumer(
        bootstrap_servers=bootstrap, enable_auto_commit=False, max_partition_fetch_bytes=20 << 20
    )
    await consumer.start()
    try:
        places = [TopicPartition(topic, number) for number in range(partitions)]
        consumer.assign(places)
        await consumer.seek_to_beginning(*places)
        ends = await consumer.end_offsets(places)
        found: list[Any] = []
        while any([await consumer.position(place) < ends[place] for place in places]):
            for records in (await consumer.getmany(timeout_ms=200)).values():
                found += records
        return sorted(found, key=lambda record: (record.partition, record.offset))
    finally:
        await consumer.stop()


async def end_offsets(bootstrap: str, topic: str, partitions: int) -> dict[int, int]:
    consumer = AIOKafkaConsumer(bootstrap_servers=bootstrap, enable_auto_commit=False)
    await consumer.start()
    try:
        places = [TopicPartition(topic, number) for number in range(partitions)]
        consumer.assign(places)
        return {place.partition: end for place, end in (await consumer.end_offsets(places)).items()}
    finally:
        await consumer.stop()


async def produce_with_header_name(bootstrap: str, topic: str, partition: int, value: bytes, name: bytes) -> None:
    """One record with a header whose name may be any bytes: what no client in Python would send."""
    producer = AIOKafkaProducer(bootstrap_servers=bootstrap)  # not idempotent: that would write the batch anew
    await producer.start()
    try:
        batch = producer.create_batch()
        stand_in = b"~" * len(name)
        batch.append(key=None, value=value, timestamp=None, headers=[(stand_in.decode(), b"")])
        built = bytearray(batch._build())
        at = built.rindex(stand_in)
        built[at : at + len(name)] = name
        checksum = calc_crc32c(bytes(built[DefaultRecordBase.ATTRIBUTES_OFFSET :]))
        struct.pack_into(">I", built, DefaultRecordBase.CRC_OFFSET, checksum)
        batch._buffer = bytes(built)
        await (await producer.send_batch(batch, topic, partition=partition))
    finally:
        await producer.stop()
