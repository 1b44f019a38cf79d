"""A small worker for the contract tests of the pinned Faust: `python -m tests.support.faust_agent BROKER DIR MODE`.

Every record is one value. Values that were handled are appended to DIR/seen, one a line. With DIR/fail present the agent
raises at the value it names. MODE `table` counts the values of each partition in a table, several a batch; it raises when
one is missing, and acknowledges as `streams.consume` does.
"""

import functools
import sys
from itertools import groupby
from pathlib import Path
from typing import Any

import faust

from runtime.settings import KafkaSettings, Settings, WorkerSettings
from streams.app import create_app, raw_topic
from streams.tables import NotOwnedError, bind_event, drain, is_current, require_current

TOPICS = {"plain": "contract.plain", "table": "contract.values"}
TABLE = "counts"
PARTITIONS = 4
BATCH = {"plain": 5, "table": 200}


async def agent(directory: Path, app: Any, table: Any, stream: Any) -> None:
    fail = directory / "fail"
    failing = fail.read_text() if fail.exists() else ""
    held: list[Any] = []
    source = stream.noack()
    async for event in source.events():
        held.append(event)
        if len(held) < BATCH["plain" if table is None else "table"] and not source.channel.queue.empty():
            continue
        for one in held:
            if one.value.decode() == failing:
                raise RuntimeError(failing)
        held = [one for one in held if is_current(one)]
        if table is not None and held:
            try:
                await count(directory, app, table, held)
            except NotOwnedError:
                held = []  # whoever owns them now gets them again
        with (directory / "seen").open("a") as seen:
            seen.writelines(f"{one.value.decode()}\n" for one in held)
        for one in held:
            if is_current(one):
                one.ack()
        held = []


async def count(directory: Path, app: Any, table: Any, events: list[Any]) -> None:
    """The guard of a table: value and last applied offset in one."""
    by_partition = sorted(events, key=lambda event: event.message.partition)
    for partition, group in groupby(by_partition, key=lambda event: event.message.partition):
        own = list(group)
        with bind_event(own[-1]):
            held, last = (int(part) for part in (table.get(b"%d" % partition) or b"0 -1").split())
            fresh = [event for event in own if event.message.offset > last]
            offsets = [event.message.offset for event in fresh]
            if offsets != list(range(last + 1, last + 1 + len(fresh))):
                raise RuntimeError(f"partition {partition}: {offsets} do not follow {last}")
            require_current(own[-1])
            table[b"%d" % partition] = b"%d %d" % (held + len(fresh), max(last, own[-1].message.offset))
    await drain(app)
    lines = " ".join(f"{key.decode()}={value.decode().split()[0]}" for key, value in sorted(table.items()))
    with (directory / "counts").open("w") as counts:
        counts.write(lines)


def main(broker: str, directory: Path, mode: str) -> None:
    settings = Settings(
        kafka=KafkaSettings(bootstrap=broker, balance_partitions=PARTITIONS),
        worker=WorkerSettings(data_dir=str(directory), session_timeout_s=6, heartbeat_interval_s=1),
    )
    app = create_app(settings, "balances", store="memory://")
    table = None
    if mode == "table":
        table = app.Table(TABLE, key_type=bytes, value_type=bytes, partitions=PARTITIONS)
    topic = raw_topic(app, TOPICS[mode], PARTITIONS)
    app.agent(topic, name="contract", concurrency=1)(functools.partial(agent, directory, app, table))
    faust.Worker(app, loglevel="INFO", quiet=True, redirect_stdouts=False).execute_from_commandline()


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), sys.argv[3])
