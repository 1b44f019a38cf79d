"""What the parts allow, measured in the same run: an empty endpoint, a bare produce, and the generator by itself."""

import asyncio
import contextlib
import itertools
import sys
import time
from collections.abc import AsyncIterator, Sequence
from statistics import median

from confluent_kafka import KafkaError, Message, Producer
from confluent_kafka.admin import AdminClient, NewTopic  # type: ignore[attr-defined]  # re-exported implicitly

from bench.load import BenchError, Connection, Load, Target, drive
from bench.rig import PARTITIONS, Rig
from runtime.local.ports import HOST

EMPTY_PATH = "/healthz"
TOPIC = "bench.produced"
PRODUCED_WITHIN_S = 30.0
WHOLE_BYTES = 1000


async def empty_endpoint(rig: Rig, connections: Sequence[Connection]) -> Load:
    """An endpoint of the same server that does nothing, from the same clients: the repeat with the median rate."""
    request = rig.target.request("GET", EMPTY_PATH)
    loads = [
        await drive(connections, itertools.repeat(request), expected=200, within_s=rig.scale.load_s / 2)
        for _ in range(rig.scale.repeats)
    ]
    return sorted(loads, key=lambda load: load.per_second)[len(loads) // 2]


async def bare_produce(rig: Rig, bodies: Sequence[bytes]) -> float:
    """Seconds to get the bytes of `bodies` acknowledged by the log (acks=all) without anything of ours; the median.

    Each body becomes a record a partition, as the API makes of it, but cut anywhere; a short one stays whole.
    """
    bootstrap = rig.address.endpoints.kafka_bootstrap
    await asyncio.to_thread(_create_topic, bootstrap)
    records = [record for turn, body in enumerate(bodies) for record in _records(turn, body)]
    seconds = [await asyncio.to_thread(_produce, bootstrap, records) for _ in range(rig.scale.repeats)]
    return median(seconds)


def _records(turn: int, body: bytes) -> list[tuple[int, bytes]]:
    if len(body) <= WHOLE_BYTES:
        return [(turn % PARTITIONS, body)]
    cuts = [len(body) * number // PARTITIONS for number in range(PARTITIONS + 1)]
    return [(number, body[begin:end]) for number, (begin, end) in enumerate(itertools.pairwise(cuts))]


def _create_topic(bootstrap: str) -> None:
    admin = AdminClient({"bootstrap.servers": bootstrap})
    if TOPIC in admin.list_topics(timeout=PRODUCED_WITHIN_S).topics:
        return
    [created] = admin.create_topics([NewTopic(TOPIC, num_partitions=PARTITIONS, replication_factor=1)]).values()
    created.result(PRODUCED_WITHIN_S)


def _produce(bootstrap: str, records: Sequence[tuple[int, bytes]]) -> float:
    producer = Producer(
        {
            "bootstrap.servers": bootstrap,
            "acks": "all",
            "enable.idempotence": True,
            "queue.buffering.max.messages": len(records) + 1,
            "queue.buffering.max.kbytes": 1 << 20,
        }
    )
    failures: list[str] = []

    def delivered(error: KafkaError | None, _: Message) -> None:
        if error is not None:
            failures.append(str(error))

    for partition in range(PARTITIONS):  # connected and known to the broker before the clock starts
        producer.produce(TOPIC, value=b"", partition=partition, on_delivery=delivered)
    producer.flush(PRODUCED_WITHIN_S)
    begun = time.perf_counter()
    for partition, value in records:
        producer.produce(TOPIC, value=value, partition=partition, on_delivery=delivered)
        producer.poll(0)
    left = producer.flush(PRODUCED_WITHIN_S)
    seconds = time.perf_counter() - begun
    if failures or left:
        raise BenchError(f"the bare produce failed: {failures[:1] or left}")
    return seconds


@contextlib.asynccontextmanager
async def empty_server() -> AsyncIterator[Target]:
    """`empty_server.py` in a process of its own, as the API is."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "bench.empty_server", stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
    )
    if process.stdin is None or process.stdout is None:
        raise RuntimeError("pipes were asked for")
    try:
        yield Target(host=HOST, port=int(await process.stdout.readline()))
    finally:
        process.stdin.close()
        await process.wait()
