"""The process that stands in for a ClickHouse server, alone: for tests that stop or kill it."""

import contextlib
import http.client
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from tests.support.waiting import eventually

ROOT = Path(__file__).resolve().parents[2]


class ClickHouseProcess:
    """One data directory and one port; it may be started again after it was stopped or killed."""

    def __init__(self, data: Path) -> None:
        self.data = data
        self.port = _free_port()
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        with (self.data.parent / f"{self.data.name}.log").open("ab") as log:
            command = [sys.executable, "-m", "runtime.local.clickhouse", "--data", str(self.data)]
            self._process = subprocess.Popen([*command, "--port", str(self.port)], cwd=ROOT, stderr=log)
        eventually(self._answers, within_s=30, every_s=0.02)

    def kill(self) -> None:
        """SIGKILL, now."""
        assert self._process is not None
        self._process.kill()
        self._process.wait()

    def stop(self) -> int:
        """SIGTERM; the exit code."""
        assert self._process is not None
        self._process.send_signal(signal.SIGTERM)
        return self._process.wait(timeout=60)

    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def _answers(self) -> bool:
        assert self.running(), (self.data.parent / f"{self.data.name}.log").read_text()
        with contextlib.suppress(OSError, http.client.HTTPException):
            connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=5)
            with contextlib.closing(connection):
                connection.request("GET", "/ping")
                return connection.getresponse().read() == b"Ok.\n"
        return False


@contextlib.contextmanager
def clickhouse_process(data: Path) -> Iterator[ClickHouseProcess]:
    process = ClickHouseProcess(data)
    process.start()
    try:
        yield process
    finally:
        if process.running():
            process.kill()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
