"""Breadth first through every interleaving: the first violation found has the shortest trace."""

import sys
import time
from collections import deque
from collections.abc import Iterable
from typing import Any, Protocol

from docs.protocol.rules import Violation

LIMIT = 4_000_000


class Model(Protocol):
    start: Any

    def successors(self, s: Any) -> Iterable[tuple[str, Any]]: ...

    def check(self, s: Any) -> None: ...

    def at_rest(self, s: Any) -> bool: ...


Found = tuple[str, list[str]] | None


def explore(model: Model, *, live: bool = False) -> tuple[int, Found]:
    """Returns (states, None), or (states, (violation, shortest trace)).

    A state without a way on that is not at rest is stuck. With `live` each state must also have a way to rest: nobody
    runs in circles for ever. That takes twice the memory.
    """
    parent: dict[Any, Any] = {model.start: None}
    back: dict[Any, list[Any]] = {}
    queue, rests = deque([model.start]), []
    while queue:
        s = queue.popleft()
        try:
            model.check(s)
            following = list(model.successors(s))
            resting = model.at_rest(s)
            if not following and not resting:
                raise Violation("stuck")
        except Violation as violation:
            return len(parent), (str(violation), _trace(parent, s))
        if live and resting:
            rests.append(s)
        for label, t in following:
            if t not in parent:
                parent[t] = (s, label)
                queue.append(t)
            if live:
                back.setdefault(t, []).append(s)
        if len(parent) > LIMIT:
            raise SystemExit(f"more than {LIMIT} states")
    if live:
        return len(parent), _circle(parent, back, rests)
    return len(parent), None


def _circle(parent: dict[Any, Any], back: dict[Any, list[Any]], rests: list[Any]) -> Found:
    """The first state from which no way leads to rest."""
    can, queue = set(rests), deque(rests)
    while queue:
        for s in back.get(queue.popleft(), ()):
            if s not in can:
                can.add(s)
                queue.append(s)
    for s in parent:
        if s not in can:
            return "never comes to rest", _trace(parent, s)
    return None


def _trace(parent: dict[Any, Any], s: Any) -> list[str]:
    trace = []
    while parent[s]:
        s, label = parent[s]
        trace.append(label)
    return trace[::-1]


def run(name: str, model: Model, *, must_fail: bool, show: bool, live: bool = False) -> bool:
    """Explore and print a line; True when the outcome is the expected one. `show` prints the trace of a violation."""
    at = time.monotonic()
    states, found = explore(model, live=live)
    as_expected = bool(found) == must_fail
    verdict = found[0] if found else "holds"
    flag = "" if as_expected else "   <== UNEXPECTED"
    print(f"{name:58} {states:8} states {time.monotonic() - at:6.1f} s  {verdict}{flag}", flush=True)
    if found and (show or not as_expected):
        sys.stdout.write("".join(f"    {label}\n" for label in found[1]))
    return as_expected
