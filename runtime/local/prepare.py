"""`python -m runtime.local.prepare`: fetch and derive all that the servers need, once a machine.

Safe to repeat: what is there is left alone, so a second run takes no time. The servers do the necessary part of it by
themselves; here it happens before, with progress shown, and the archive that makes Kafka start fast is made as well.
"""

import asyncio
import sys
import tempfile
import time
from pathlib import Path

from confluent_kafka import KafkaException, Producer
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

from runtime.local.errors import PartFailedError, StackError
from runtime.local.jars import ensure_jars, jars_dir
from runtime.local.java import base_archive, ensure_base_archive, kafka_archive
from runtime.local.kafka import KafkaServer
from runtime.local.postgres import ensure_binaries
from runtime.local.process import Guardian

TRAINING_TOPIC = "training"
TRAINING_TIMEOUT_S = 30.0
DUMP_GRACE_S = 120.0


def say(text: str) -> None:
    sys.stderr.write(f"    {text}\n")
    sys.stderr.flush()


def ensure_kafka_archive() -> bool:
    """Run the broker once (start, produce, SIGTERM), so that its classes are archived. Returns whether there is one."""
    target = kafka_archive()
    if target.exists():
        return True
    scratch = target.with_suffix(".tmp")
    try:
        with tempfile.TemporaryDirectory(prefix="meterstream-training-") as data:
            asyncio.run(_train(Path(data), scratch))
    except (PartFailedError, KafkaException) as error:
        say(f"no archive of Kafka's classes: it will start more slowly ({error})")
    if not scratch.exists():
        return False
    scratch.replace(target)
    return True


async def _train(data: Path, archive: Path) -> None:
    flags = (f"-XX:SharedArchiveFile={base_archive()}", f"-XX:ArchiveClassesAtExit={archive}", "-Xlog:disable")
    guard = Guardian()
    server = KafkaServer(data=data / "kafka", logs=data, guard=guard, sharing=flags)
    try:
        await server.start()
        await asyncio.to_thread(_produce_once, server.bootstrap)
    finally:
        await server.stop(grace_s=DUMP_GRACE_S)  # it writes the archive on its way out
        await asyncio.to_thread(guard.close)


def _produce_once(bootstrap: str) -> None:
    admin = AdminClient({"bootstrap.servers": bootstrap})
    admin.create_topics([NewTopic(TRAINING_TOPIC, 1)])[TRAINING_TOPIC].result(TRAINING_TIMEOUT_S)
    producer = Producer({"bootstrap.servers": bootstrap, "enable.idempotence": True, "log_level": 0})
    producer.produce(TRAINING_TOPIC, b"x")
    producer.flush(TRAINING_TIMEOUT_S)


def main() -> int:
    began = time.monotonic()
    try:
        if not jars_dir().is_dir():
            say("fetching Kafka's jars (50 MB)")
        ensure_jars()
        if not base_archive().exists():
            say("archiving the Java runtime's classes")
        if ensure_base_archive() and not kafka_archive().exists():
            say("archiving Kafka's classes, for fast starts")
            ensure_kafka_archive()
        ensure_binaries()
    except (StackError, PartFailedError, OSError) as error:
        sys.stderr.write(f"{error}\n")
        return 1
    say(f"the embedded servers are ready to run ({time.monotonic() - began:.1f} s)")
    return 0


if __name__ == "__main__":
    sys.exit(main())
