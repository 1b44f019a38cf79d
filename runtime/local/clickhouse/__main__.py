"""The process: `python -m runtime.local.clickhouse --data DIR --port PORT`, on 127.0.0.1 until SIGTERM or SIGINT."""

import argparse
import asyncio
import fcntl
import logging
import signal
import sys
from pathlib import Path

import uvloop

from runtime.local.clickhouse.engine import force_utc
from runtime.local.clickhouse.http import Clients, Connection
from runtime.local.clickhouse.server import Facade, Limits

logger = logging.getLogger("clickhouse")


def main() -> int:
    """0 after a signal, 1 when the directory belongs to another process or the port is taken."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--data", type=Path, required=True)
    arguments.add_argument("--port", type=int, required=True)
    chosen = arguments.parse_args()
    logging.basicConfig(level=logging.INFO, stream=sys.stderr, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    force_utc()
    data: Path = chosen.data.absolute()
    data.mkdir(parents=True, exist_ok=True)
    with (data / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            logger.error("another process uses %s", data)  # noqa: TRY400 - its cause is known
            return 1
        facade = Facade(data, Limits())
        try:
            return uvloop.run(_serve(facade, chosen.port))
        finally:
            facade.close()


async def _serve(facade: Facade, port: int) -> int:
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    clients = Clients()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    try:
        server = await loop.create_server(lambda: Connection(facade, clients), "127.0.0.1", port, backlog=256)
    except OSError as error:
        logger.error("port %d: %s", port, error)  # noqa: TRY400 - its cause is known
        return 1
    logger.info("ready on 127.0.0.1:%d", port)
    await stop.wait()
    logger.info("stopping: running statements are finished first")
    server.close()
    await clients.stop()
    return 0


if __name__ == "__main__":
    sys.exit(main())
