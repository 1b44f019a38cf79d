"""What must be true in every state of the ingest model, and what at rest."""

import itertools
from typing import Protocol

from docs.protocol.rules import CUSTOMER, Rules, State, Violation


class Partition(Protocol):
    """What the checks need to know of the model: the records, and the rules in force."""

    ids: str
    n: int
    r: Rules
    names: list[str]
    first: dict[str, int]


def check(model: Partition, s: State) -> None:
    for name, rows in (("events", s.ev), ("windows", s.win)):
        seen = [model.ids[off] for off, _ in rows]
        if len(seen) != len(set(seen)):
            raise Violation(f"counted twice in {name}: {rows}")
    for x in s.ledger:
        if x.done and not (set(x.b.rows) <= set(s.ev) and set(x.b.rows) <= set(s.win)):
            raise Violation(f"done but not stored: {x.b.rows}")
    done = max([x.b.last for x in s.ledger if x.done], default=-1)
    if s.committed > done + 1 and model.r["ack"] == "last":
        raise Violation("commit ahead of the ledger")
    if any(x.b.cat > y.b.cat for x, y in itertools.pairwise(s.ledger)):
        raise Violation("a partition went back to an older catalog version")
    if at_rest(model, s):
        _check_at_rest(model, s)


def at_rest(model: Partition, s: State) -> bool:
    w = s.ws[s.owner]
    last = s.ledger[-1].b.last + 1 if s.ledger else 0
    finished = last == model.n or model.r["ack"] == "first"
    return w.pc == "open" and w.pos >= model.n and not w.inherit and not s.pend and finished


def _check_at_rest(model: Partition, s: State) -> None:
    """Every unique event once in events, windows and balances, whichever deltas the balances agent reads again."""
    truth = [model.first[i] for i in model.names]
    for name, rows in (("events", s.ev), ("windows", s.win)):
        if sorted(off for off, _ in rows) != sorted(truth):
            raise Violation(f"{name} hold {rows}, truth {truth}")
    for c in (0, 1):
        want = sum(CUSTOMER[i] == c for i in model.names)
        log, guard, value = s.deltas[c], -1, 0
        if c == 0 and s.seed:
            read, guard, value = s.seed
            log = log[read:]
        # The agent may have crashed at k, to go on from its last commit at j.
        for j, k in itertools.combinations_with_replacement(range(len(log) + 1), 2):
            got = _fold(model, log[:k] + log[j:], guard, value)
            if got != want:
                raise Violation(f"balance of customer {c} is {got}, truth {want}; deltas {log} seed {s.seed}")


def _fold(model: Partition, log: tuple[tuple[int, int, int], ...], guard: int, value: int) -> int:
    for _first, last, amount in log:
        if last > guard or model.r["guard"] == "none":
            value, guard = value + amount, max(guard, last)
    return value
