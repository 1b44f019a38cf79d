"""One stack at a time on a data directory."""

import contextlib
import fcntl
import os
import time
from pathlib import Path

from runtime.local.errors import StackError
from runtime.local.guardian import GRACE_S

POLL_S = 0.1


class DataLock:
    """Held until `release` or the end of every process that has its descriptor: the guardian of a killed stack keeps it
    until that stack's servers are gone. Such a lock is waited for; that of a running stack is refused at once.
    """

    def __init__(self, data: Path) -> None:
        self._data = data
        self._fd = -1

    @property
    def fd(self) -> int:
        return self._fd

    def acquire(self) -> None:
        """Raises StackError when another stack runs on this directory."""
        self._data.mkdir(parents=True, exist_ok=True)
        fd = os.open(self._data / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        deadline = time.monotonic() + GRACE_S + 2
        while not self._try(fd):
            if self._owner_runs(fd) or time.monotonic() > deadline:
                os.close(fd)
                raise StackError(f"another stack runs on {self._data}: stop it first, or choose another directory")
            time.sleep(POLL_S)
        os.truncate(fd, 0)
        os.pwrite(fd, str(os.getpid()).encode(), 0)
        self._fd = fd

    def release(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    @staticmethod
    def _try(fd: int) -> bool:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    @staticmethod
    def _owner_runs(fd: int) -> bool:
        text = os.pread(fd, 32, 0).decode()
        if not text.isdigit():
            return False
        with contextlib.suppress(ProcessLookupError):
            os.kill(int(text), 0)
            return True
        return False
