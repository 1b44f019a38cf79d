"""The ClickHouse process: chDB behind the ClickHouse HTTP interface (runtime/local/clickhouse)."""

import asyncio
import os
import sys
from http.client import HTTPConnection, HTTPException
from pathlib import Path

from runtime.local.ports import HOST, free_ports
from runtime.local.process import Child, Guardian, ProcessSpec, until_ready

NAME = "clickhouse"
READY_WITHIN_S = 60.0
PING_TIMEOUT_S = 2.0
ROOT = Path(__file__).resolve().parents[2]


class ClickhouseServer:
    """One server on `data`; `logs` gets clickhouse.log."""

    name = NAME

    def __init__(self, *, data: Path, logs: Path, guard: Guardian) -> None:
        self._data = data
        self._log = logs / f"{NAME}.log"
        self._guard = guard
        self._port = 0
        self.child: Child | None = None

    @property
    def url(self) -> str:
        return f"http://{HOST}:{self._port}"

    async def start(self) -> None:
        """Start and wait until GET /ping says Ok."""
        self._data.mkdir(parents=True, exist_ok=True)
        (self._port,) = free_ports(1)
        module = [sys.executable, "-m", "runtime.local.clickhouse"]
        spec = ProcessSpec(
            name=NAME,
            argv=(*module, "--data", str(self._data), "--port", str(self._port)),
            log=self._log,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))},
            cwd=self._data,
            stop_grace_s=30.0,
        )
        self.child = await Child.spawn(spec, self._guard)
        await until_ready(self.child, self._pings, within_s=READY_WITHIN_S, every_s=0.05)

    async def stop(self) -> None:
        if self.child is not None:
            await self.child.stop()

    async def _pings(self) -> bool:
        return await asyncio.to_thread(self._ping)

    def _ping(self) -> bool:
        connection = HTTPConnection(HOST, self._port, timeout=PING_TIMEOUT_S)
        try:
            connection.request("GET", "/ping")
            response = connection.getresponse()
            return response.status == 200 and response.read().startswith(b"Ok.")  # noqa: PLR2004 - HTTP
        except (OSError, HTTPException):
            return False
        finally:
            connection.close()
