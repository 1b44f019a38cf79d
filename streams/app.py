"""The Faust app of a role: one function that builds it, every setting that matters in one place.

Reasons stand beside the settings. A fresh app per call: tests make as many as they like.
"""

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal, cast

import faust
from faust.types import TP
from mode.supervisors import CrashingSupervisor

from runtime.settings import Settings, WorkerSettings
from schemas.topics import APP_BALANCES, APP_INGEST, APP_NOTIFICATIONS
from streams.transport import Consumer, IsFull, Positions, Transport

Role = Literal["ingest", "balances", "notifications"]

APP_IDS: dict[Role, str] = {"ingest": APP_INGEST, "balances": APP_BALANCES, "notifications": APP_NOTIFICATIONS}

MIB = 1 << 20
PRODUCER_BUFFER_MESSAGES = 5_000
MAX_REQUEST_BYTES = 20 * MIB


class App(faust.App):
    """A Faust app on our transport. `positions` is set by a role that keeps its own progress (protocol 18)."""

    positions: Positions | None = None
    stopped: Mapping[TP, str] = MappingProxyType({})
    """Assigned partitions that a role reads no further, and why: the process lives, and the others go on."""
    buffer_max_bytes: int = WorkerSettings().buffer_max_bytes
    """What may wait for the agent, in bytes; Faust itself bounds the number of records."""
    is_full: IsFull | None = None
    """Which sources are not to be read now, beside that: of a role that keeps what waits by partition."""

    async def on_start(self) -> None:
        await super().on_start()
        self.producer.buffer.max_messages = PRODUCER_BUFFER_MESSAGES  # by default 100: "producer buffer full" stalls

    def _new_transport(self) -> Transport:
        return Transport(self.conf.broker_consumer, self)

    def _new_producer_transport(self) -> Transport:
        return Transport(self.conf.broker_producer, self)


def create_app(settings: Settings, role: Role, **overrides: Any) -> App:
    """The app of a role: no agents yet, nothing connected. `overrides` are Faust settings (tests: shorter time-outs).

    Delivery is at least once: a supervisor that crashes the process, acks by hand, and guards by position.
    """
    kafka, worker = settings.kafka, settings.worker
    data_dir = Path(worker.data_dir)
    data_dir.mkdir(parents=True, exist_ok=True)  # Faust creates its own directory, but no parents
    partitions = kafka.raw_partitions if role == "ingest" else kafka.balance_partitions
    options: dict[str, Any] = {
        "broker": ";".join(f"kafka://{address.strip()}" for address in kafka.bootstrap.split(",")),
        "datadir": str(data_dir / "faust"),
        "autodiscover": False,
        # Exactly-once in Faust swallows failed commits and sends offsets without a generation: guard by keys instead.
        "processing_guarantee": "at_least_once",
        "agent_supervisor": CrashingSupervisor,  # any other acks over a message whose agent failed
        "stream_wait_empty": False,  # bounded shutdown and rebalance; safe since all state is guarded by position
        "stream_buffer_maxsize": 4096,
        "broker_commit_interval": worker.commit_interval_s,
        "broker_commit_every": 10_000,
        "broker_max_poll_records": 500,
        "broker_session_timeout": worker.session_timeout_s,
        "broker_heartbeat_interval": worker.heartbeat_interval_s,
        "broker_rebalance_timeout": max(worker.rebalance_timeout_s, worker.session_timeout_s),
        "broker_request_timeout": worker.group_request_timeout_s,
        "broker_max_poll_interval": worker.max_poll_interval_s,
        "consumer_max_fetch_size": MIB,
        "consumer_auto_offset_reset": "earliest",  # `latest` can stick a recovery for ever
        "producer_acks": -1,
        "producer_linger": 0.02,  # changelog-bound agents gain a third; what must leave at once has its own producer
        "producer_max_batch_size": 131_072,
        "producer_max_request_size": MAX_REQUEST_BYTES,
        "producer_compression_type": None,  # never lz4: it runs at its highest level on the event loop
        "producer_request_timeout": worker.changelog_timeout_s,
        "producer_threaded": False,
        "store": "rocksdb://" if role == "balances" else "memory://",
        "table_standby_replicas": 0,
        # A local store that is ahead of the changelog (the log lost its end) is right; Faust would refuse to start.
        "recovery_consistency_check": False,
        "topic_partitions": partitions,
        "topic_replication_factor": kafka.replication_factor,
        "topic_allow_declare": False,  # `meterstream migrate` creates every topic and changelog
        "topic_disable_leader": True,
        "key_serializer": "raw",
        "value_serializer": "raw",  # we decode: a decode error in Faust acks the message and is gone
        "web_enabled": False,  # its /table endpoint serves data; health is streams/health.py
        "worker_redirect_stdouts": False,
    }
    app = App(APP_IDS[role], **{**options, **overrides})
    app.buffer_max_bytes = worker.buffer_max_bytes
    cure_assignment_race(app)
    return app


def table_options() -> dict[str, Any]:
    """Options of one RocksDB table, a fresh dict each time: Faust takes keys out of it. Its defaults exhaust memory."""
    return {"driver": "rocksdict", "block_cache_size": 32 * MIB, "write_buffer_size": 8 * MIB}


def cure_assignment_race(app: App) -> None:
    """Close the race in which Faust loses queued events when a partition is assigned.

    Three pieces, all needed: the flow stops when a rebalance is complete (else the fetcher, already running for the
    changelog, fills queues that are cleared a moment later); a paused partition is not re-activated by a buffer that
    drains (`Consumer.on_buffer_drop`); and what was full before the assignment is forgotten.
    """

    async def stop_flow(*_: Any, **__: Any) -> None:
        app.consumer.stop_flow()  # both branches of Faust resume it by themselves after they cleared the queues

    async def forget_full_buffers(*_: Any, **__: Any) -> None:
        cast("Consumer", app.consumer)._buffered_partitions.clear()  # noqa: SLF001

    app.on_rebalance_complete.connect(stop_flow)
    app.on_partitions_assigned.connect(forget_full_buffers)


def raw_topic(app: App, name: str, partitions: int) -> Any:
    """A topic of bytes, never declared by Faust."""
    return app.topic(name, value_type=bytes, key_type=bytes, partitions=partitions, internal=False)
