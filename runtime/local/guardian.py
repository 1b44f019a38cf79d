"""Ends the process groups of a supervisor that died without doing so: a program of its own, standard library only.

It runs in a session of its own and reads lines from its standard input: `+ PGID SIGNAL` when a group begins, `- PGID`
when it has ended. The end of the input means that the supervisor is gone, however it went: the leader of every group
that is left gets its signal, and the group SIGKILL after a grace.
"""

import os
import signal
import sys
import time
from collections.abc import Callable

GRACE_S = 8.0
POLL_S = 0.05


def alive(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    try:
        with open(f"/proc/{group}/stat") as stat:  # noqa: PTH123 - pathlib takes longer to import than this program runs
            return stat.read().rpartition(")")[2].split()[0] != "Z"  # ended, but nobody has asked for its exit code
    except OSError:
        return True


def send(send_to: Callable[[int, int], None], target: int, number: int) -> None:
    try:
        send_to(target, number)
    except (ProcessLookupError, PermissionError):
        return


def follow(lines: list[str]) -> dict[int, int]:
    groups: dict[int, int] = {}
    for line in lines:
        match line.split():
            case ["+", group, number]:
                groups[int(group)] = int(number)
            case ["-", group]:
                groups.pop(int(group), None)
            case _:
                continue
    return groups


def main() -> None:
    for ignored in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(ignored, signal.SIG_IGN)
    groups = follow(sys.stdin.readlines())
    for group, number in groups.items():
        send(os.kill, group, number)  # the leader ends its own children in its own order
    deadline = time.monotonic() + GRACE_S
    while any(alive(group) for group in groups) and time.monotonic() < deadline:
        time.sleep(POLL_S)
    for group in groups:
        send(os.killpg, group, signal.SIGKILL)


if __name__ == "__main__":
    main()
