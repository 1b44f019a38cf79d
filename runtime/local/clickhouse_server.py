"""The ClickHouse process: chDB behind the ClickHouse HTTP interface (runtime/local/clickhouse)."""

import asyncio
import os
import sys
from pathlib import Path

from runtime.local.ports import HOST, answers_ok, start_on_ports
from runtime.local.process import Child, Guardian, ProcessSpec, until_ready

NAME = "clickhouse"
READY_WITHIN_S = 60.0
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
        return f"http://{HOST}:{self._port}" if self._port else ""

    async def start(self) -> None:
        """Start and wait until GET /ping says Ok."""
        self._data.mkdir(parents=True, exist_ok=True)
        await start_on_ports([self._port] if self._port else [], 1, self._start_on)

    async def _start_on(self, ports: list[int]) -> None:
        (self._port,) = ports  # the same one when this object starts again
        module = [sys.executable, "-m", "runtime.local.clickhouse"]
        spec = ProcessSpec(
            name=NAME,
            argv=(*module, "--data", str(self._data), "--port", str(self._port)),
            log=self._log,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))},
            cwd=self._data,
            stop_grace_s=30.0,
        )
        self.child = Child.spawn(spec, self._guard)
        await until_ready(self.child, self._pings, within_s=READY_WITHIN_S, every_s=0.05)

    async def stop(self) -> None:
        if self.child is not None:
            await self.child.stop()

    async def _pings(self) -> bool:
        return await asyncio.to_thread(answers_ok, f"{self.url}/ping")
