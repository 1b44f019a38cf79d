"""Our own processes beside the servers: started again, with backoff, until it happens too often."""

import asyncio
import os
import signal
import sys
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from runtime.local.apps import MAX_EXITS, Apps, AppSpec
from runtime.local.errors import PartFailedError
from runtime.local.ports import free_ports
from runtime.local.process import Guardian
from tests.support.waiting import eventually_async

Run = Callable[[AppSpec], Apps]

SERVE = """
import http.server, sys
class Ok(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200); self.end_headers()
http.server.HTTPServer(("127.0.0.1", int(sys.argv[1])), Ok).serve_forever()
"""


def app(script: str, *arguments: str, ready_url: str = "") -> AppSpec:
    argv = (sys.executable, "-S", "-c", script, *arguments)
    return AppSpec(name="app", argv=argv, env=dict(os.environ), ready_url=ready_url)


@pytest.fixture
def said() -> list[str]:
    return []


@pytest.fixture
async def run(tmp_path: Path, said: list[str]) -> AsyncIterator[Run]:
    guard, started = Guardian(), list[Apps]()

    def make(spec: AppSpec) -> Apps:
        started.append(Apps([spec], logs=tmp_path, guard=guard, say=said.append, first_backoff_s=0.05))
        return started[-1]

    yield make
    for apps in started:
        await apps.stop()
    guard.close()


async def test_an_app_is_ready_when_its_url_answers(run: Run) -> None:
    (port,) = free_ports(1)
    apps = run(app(SERVE, str(port), ready_url=f"http://127.0.0.1:{port}/readyz"))
    await asyncio.wait_for(apps.start(), 20)


async def test_an_app_that_is_killed_starts_again_with_one_line(run: Run, said: list[str]) -> None:
    apps = run(app("import time; time.sleep(600)"))
    await apps.start()
    first = apps.pid("app")
    os.kill(first, signal.SIGKILL)
    await eventually_async(lambda: apps.pid("app") != first, within_s=10)
    assert said == ["app exited with code -9; it starts again in 0.05 s"]


async def test_the_wait_doubles_and_the_fifth_exit_in_a_minute_ends_it_with_the_log(run: Run, said: list[str]) -> None:
    apps = run(app("import sys; sys.exit('no database today')"))
    began = time.monotonic()
    await apps.start()
    failure = await asyncio.wait_for(apps.failed(), 20)
    assert time.monotonic() - began >= 0.05 + 0.1 + 0.2 + 0.4
    assert [line.rpartition(" in ")[2] for line in said] == ["0.05 s", "0.1 s", "0.2 s", "0.4 s"]
    assert failure.reason.startswith(f"exited {MAX_EXITS} times within 60 s")
    assert failure.log_tail.splitlines() == ["no database today"] * MAX_EXITS


async def test_an_app_that_never_gets_ready_because_it_exits_fails_the_start(run: Run) -> None:
    (port,) = free_ports(1)
    apps = run(app("import sys; sys.exit('broken')", ready_url=f"http://127.0.0.1:{port}/readyz"))
    with pytest.raises(PartFailedError, match="app: exited 5 times"):
        await asyncio.wait_for(apps.start(), 20)


async def test_stop_ends_an_app_and_what_it_started(run: Run, tmp_path: Path) -> None:
    grandchild = tmp_path / "grandchild"
    script = f"""
import subprocess, sys, time
child = subprocess.Popen([sys.executable, "-S", "-c", "import time; time.sleep(600)"])
open({str(grandchild)!r}, "w").write(str(child.pid))
time.sleep(600)
"""
    apps = run(app(script))
    await apps.start()
    await eventually_async(lambda: grandchild.exists() and grandchild.read_text() != "", within_s=10)
    pid = int(grandchild.read_text())
    await apps.stop()

    def is_gone() -> bool:
        stat = Path(f"/proc/{pid}/stat")
        return not stat.exists() or stat.read_text().split()[2] == "Z"

    await eventually_async(is_gone, within_s=5)
