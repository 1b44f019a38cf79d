"""The life of the process: one owner of the data directory, ready, stopped by a signal, every statement finished."""

import asyncio
import fcntl
import logging
import signal
from pathlib import Path

import uvloop

from runtime import garbage
from runtime.local.clickhouse.http import Clients, Connection
from runtime.local.clickhouse.server import Facade, Limits

logger = logging.getLogger("clickhouse")

# Objects that came and stayed between two looks of the garbage collector.
_COLLECTOR_YOUNG = 50_000
_PATTERN = frozenset("*?{}")


def run(data: Path, port: int) -> int:
    """0 after SIGTERM or SIGINT, 1 when the directory cannot be used or belongs to another process, or the port is taken."""
    if _PATTERN & set(str(data)):
        logger.error("the engine would read the path %s as a pattern: it must not hold * ? { or }", data)
        return 1
    data.mkdir(parents=True, exist_ok=True)
    with (data / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            logger.error("another process uses %s", data)  # noqa: TRY400 - its cause is known
            return 1
        return uvloop.run(_serve(data, port))


async def _serve(data: Path, port: int) -> int:
    loop = asyncio.get_running_loop()
    facade = Facade(data, Limits())
    stop = asyncio.Event()
    clients = Clients()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    try:
        server = await loop.create_server(lambda: Connection(facade, clients), "127.0.0.1", port, backlog=256)
    except OSError as error:
        logger.error("port %d: %s", port, error)  # noqa: TRY400 - its cause is known
        facade.close()
        return 1
    garbage.settle(_COLLECTOR_YOUNG)
    logger.info("ready on 127.0.0.1:%d", port)
    await stop.wait()
    logger.info("stopping: running statements are finished first")
    server.close()
    await clients.stop()
    facade.close()
    return 0
