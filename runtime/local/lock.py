"""One stack at a time on a data directory."""

import fcntl
import os
import time
from pathlib import Path

from runtime.local.errors import StackError
from runtime.local.guardian import GRACE_S

POLL_S = 0.1
WAIT_S = GRACE_S + 4.0


class DataLock:
    """Two locks that the kernel drops when their holders end, however they end.

    `stack.lock` is the supervisor's: whoever finds it held is refused at once. `servers.lock` is shared with its
    guardian (`servers_fd`): when the supervisor was killed it stays held until its servers are gone, and is waited for.
    """

    def __init__(self, data: Path) -> None:
        self._data = data
        self._fds: list[int] = []

    @property
    def servers_fd(self) -> int:
        return self._fds[1]

    def acquire(self) -> None:
        """Raises StackError when another stack runs on this directory."""
        self._data.mkdir(parents=True, exist_ok=True)
        refusal = StackError(f"another stack runs on {self._data}: stop it first, or choose another directory")
        try:
            if not _try_lock(self._open("stack.lock")):
                raise refusal
            servers, deadline = self._open("servers.lock"), time.monotonic() + WAIT_S
            while not _try_lock(servers):
                if time.monotonic() > deadline:
                    raise refusal
                time.sleep(POLL_S)
        except StackError:
            self.release()
            raise

    def release(self) -> None:
        for fd in self._fds:
            os.close(fd)
        self._fds = []

    def _open(self, name: str) -> int:
        self._fds.append(os.open(self._data / name, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
        return self._fds[-1]


def _try_lock(fd: int) -> bool:
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
