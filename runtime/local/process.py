"""One child process: in a group of its own, with a log file, known to the guardian, stopped by a signal and a grace."""

import asyncio
import contextlib
import ctypes
import os
import signal
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path

import msgspec

from runtime.local import guardian
from runtime.local.errors import PartFailedError

PR_SET_PDEATHSIG = 1
KILL_WAIT_S = 5.0
POLL_S = 0.02
TAIL_LINES = 20
TAIL_BYTES = 64 << 10
TAIL_WIDTH = 400
LOG_KEEP_BYTES = 32 << 20

_libc = ctypes.CDLL(None, use_errno=True) if sys.platform == "linux" else None


class ProcessSpec(msgspec.Struct, frozen=True, kw_only=True):
    """What to run. `env` is the whole environment; `user` is (uid, gid) of whom to run as, when root."""

    name: str
    argv: tuple[str, ...]
    log: Path
    env: Mapping[str, str] | None = None
    cwd: Path | None = None
    stop_signal: int = signal.SIGTERM
    stop_grace_s: float = 10.0
    user: tuple[int, int] | None = None
    pass_fds: tuple[int, ...] = ()


class Guardian:
    """Our side of guardian.py: tells it which groups there are. One for each supervisor; `close` it last."""

    def __init__(self, *, held_fds: tuple[int, ...] = ()) -> None:
        """`held_fds` stay open until it has ended: the data directory's lock, so that nobody starts too early."""
        # Isolated and without site packages: it starts in milliseconds and depends on nothing that may break.
        self._process = subprocess.Popen(
            [sys.executable, "-I", "-S", guardian.__file__],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
            cwd="/",
            pass_fds=held_fds,
        )

    def add(self, group: int, stop_signal: int) -> None:
        self._tell(f"+ {group} {stop_signal}\n")

    def remove(self, group: int) -> None:
        self._tell(f"- {group}\n")

    def close(self) -> None:
        """End it. Groups still registered are ended by it first."""
        if self._process.stdin is not None:
            with contextlib.suppress(BrokenPipeError):
                self._process.stdin.close()
        self._process.wait(timeout=guardian.GRACE_S + KILL_WAIT_S)

    def _tell(self, line: str) -> None:
        if self._process.stdin is None or self._process.poll() is not None:
            raise PartFailedError("guardian", f"the process that cleans up after a crash is gone ({line.strip()!r})")
        self._process.stdin.write(line.encode())
        self._process.stdin.flush()


def _die_with_parent(stop_signal: int) -> Callable[[], None]:
    """For the moment between fork and the guardian's notice: the kernel tells the child that we are gone."""

    def prepare() -> None:
        if _libc is not None:
            _libc.prctl(PR_SET_PDEATHSIG, stop_signal, 0, 0, 0)

    return prepare


def _rotate(log: Path) -> None:
    if log.exists() and log.stat().st_size > LOG_KEEP_BYTES:
        log.replace(log.with_suffix(log.suffix + ".1"))


def tail_of(log: Path, lines: int = TAIL_LINES) -> str:
    """The last lines of a log file, or nothing when there is none."""
    if not log.exists():
        return ""
    with log.open("rb") as file:
        file.seek(max(0, log.stat().st_size - TAIL_BYTES))
        last = file.read().decode(errors="replace").splitlines()[-lines:]
    return "\n".join(line if len(line) <= TAIL_WIDTH else f"{line[:TAIL_WIDTH]} ..." for line in last)


class Child:
    """A running process of a spec. Must be spawned in the main thread: PDEATHSIG is a matter of the thread."""

    def __init__(self, spec: ProcessSpec, process: subprocess.Popen[bytes], guard: Guardian) -> None:
        self.spec = spec
        self._process = process
        self._guard = guard
        self._forgotten = False

    @classmethod
    def spawn(cls, spec: ProcessSpec, guard: Guardian) -> "Child":
        spec.log.parent.mkdir(parents=True, exist_ok=True)
        _rotate(spec.log)
        uid, gid = spec.user or (None, None)
        try:
            with spec.log.open("ab") as log:
                process = subprocess.Popen(
                    spec.argv,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    env=dict(spec.env) if spec.env is not None else None,
                    cwd=spec.cwd,
                    start_new_session=True,
                    user=uid,
                    group=gid,
                    extra_groups=[] if spec.user else None,
                    pass_fds=spec.pass_fds,
                    preexec_fn=_die_with_parent(spec.stop_signal),  # noqa: PLW1509 - one prctl, which takes no lock
                )
        except OSError as error:
            raise PartFailedError(spec.name, f"cannot be started: {error}") from error
        guard.add(process.pid, spec.stop_signal)
        return cls(spec, process, guard)

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def exit_code(self) -> int | None:
        return self._process.poll()

    def log_tail(self) -> str:
        return tail_of(self.spec.log)

    def failure(self, reason: str) -> PartFailedError:
        return PartFailedError(self.spec.name, reason, self.log_tail())

    async def wait(self) -> int:
        """The exit code, once it has ended."""
        # Asked instead of told: asyncio's own children leave transports behind that outlive their loop.
        while (code := self._process.poll()) is None:  # noqa: ASYNC110
            await asyncio.sleep(POLL_S)
        self._forget()
        return code

    async def stop(self, *, grace_s: float | None = None) -> None:
        """Signal the process, wait for the grace, then SIGKILL its group. Safe to repeat."""
        if self._process.poll() is None:
            self._process.send_signal(self.spec.stop_signal)
            try:
                await asyncio.wait_for(self.wait(), self.spec.stop_grace_s if grace_s is None else grace_s)
            except TimeoutError:
                self._kill_group()
                await asyncio.wait_for(self.wait(), KILL_WAIT_S)
        self._forget()

    def _kill_group(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)

    def _forget(self) -> None:
        # Once only: later the number may belong to somebody else.
        if self._forgotten:
            return
        self._forgotten = True
        self._kill_group()  # what the process left behind goes with it
        self._guard.remove(self.pid)


async def until_ready(child: Child, probe: Callable[[], Awaitable[bool]], *, within_s: float, every_s: float) -> None:
    """Ask `probe` until it says yes. Raises PartFailedError when the process exits or the time is over."""
    deadline = time.monotonic() + within_s
    while time.monotonic() < deadline:
        if child.exit_code is not None:
            await child.stop()  # what it left behind goes with it
            raise child.failure(f"exited with code {child.exit_code} before it was ready")
        if await probe():
            return
        await asyncio.sleep(every_s)
    raise child.failure(f"not ready within {within_s:g} s")
