"""Completing old intents: the block's rows are in `events`, its token is forgotten, its windows are unknown.

Several partitions have a block at the same cut that touch the same row of the windows; each adds 1 to it. The row does
not say whose ones it holds, so what is missing is the difference between `events` and the windows at this cut. It is
inserted under a lease: a transaction that finds every open block of the cut without a deadline in the future, marks them
all forgotten (no token of theirs is used again, no deadline is renewed) and gives one deadline, the holder's own.

    python -m docs.protocol.completion    the rules hold, each mutant fails
"""

import os
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from docs.protocol.explore import run
from docs.protocol.rules import Violation, put

RULES: dict[str, bool] = {
    "raise_cut": True,  # first the cut is raised: no intent that begins later carries this one
    "wait": True,  # the lease waits until the deadlines of the other open blocks have passed
    "wait_own": True,  # ... and the former one of its own block
    "mark": True,  # it marks the others forgotten, too: the difference may hold their windows
    "refuse": True,  # a forgotten intent is not renewed
    "age": True,  # before each attempt a worker looks whether its intent has become old
    "once": True,  # one attempt a lease: an unknown outcome needs a new one
    "difference": True,  # what `events` has and the windows lack; otherwise the block's own rows
}
YOUNG, OLD, UNKNOWN = 0, 1, 2  # an intent: its token can be trusted; must not be any more; is forgotten by the tables
NONE, GIVEN_YOUNG, GIVEN_LATE = 0, 1, 2  # its deadline: passed; in the future, given so


class Part(NamedTuple):
    """A partition, its block of this cut, its owner. A former owner may still send while the deadline it knows lasts."""

    phase: str = "none"
    age: int = YOUNG
    forgotten: bool = False
    deadline: int = NONE
    stored: int = 0
    tok_e: bool = False
    tok_w: bool = False
    missing: int = 0  # what the owner read
    zombie: tuple[str, int] | None = None  # what a former owner is about to send


class State(NamedTuple):
    raised: bool
    parts: tuple[Part, ...]
    windows: int  # the row of the windows
    wire: tuple[tuple[int, str, int], ...]  # (partition, "insert", stage) or (partition, "fill", amount)
    deaths: int


Steps = Iterator[tuple[str, State]]
To = Callable[..., State]
IN_LEASE = ("leased", "filling", "absent", "lacking")


class Completion:
    """`deaths`: how many owners die, stop for long, or lose an answer."""

    def __init__(self, partitions: int = 2, deaths: int = 2, **rules: bool) -> None:
        self.r = {**RULES, **rules}
        self.start = State(False, (Part(),) * partitions, 0, (), deaths)

    def successors(self, s: State) -> Steps:
        for label, t in self.steps(s):
            yield label, renumbered(t)

    def steps(self, s: State) -> Steps:
        for k, (p, kind, n) in enumerate(s.wire):
            yield from self.server(s, k, p, kind, n)
        for p, part in enumerate(s.parts):

            def to(t: State = s, p: int = p, part: Part = part, **kw: Any) -> State:
                return t._replace(parts=put(t.parts, p, part._replace(**kw)))

            for step in (self.time, self.owner):
                for label, t in step(s, p, part, to):
                    yield f"{p}: {label}", t

    def server(self, s: State, k: int, p: int, kind: str, n: int) -> Steps:
        part = s.parts[p]
        if kind == "fill":
            yield f"{p}: difference {n} into windows", s._replace(wire=put(s.wire, k), windows=s.windows + n)
        elif n == 0:
            fresh = part._replace(stored=part.stored + (not part.tok_e), tok_e=True)
            wire = put(s.wire, k, (p, kind, 1))
            yield f"{p}: into events", s._replace(wire=wire, parts=put(s.parts, p, fresh))
        else:
            t = s._replace(wire=put(s.wire, k), windows=s.windows + (not part.tok_w))
            phase = "answered" if part.phase == "sent" else part.phase
            for label, after in (("", phase), (", no reply", part.phase)):
                if not label or (s.deaths and phase != part.phase):
                    left = s.deaths - bool(label)
                    new = part._replace(tok_w=True, phase=after)
                    yield f"{p}: into windows{label}", t._replace(parts=put(t.parts, p, new), deaths=left)

    def time(self, s: State, p: int, part: Part, to: To) -> Steps:
        is_open = part.phase not in ("none", "done")
        if part.deadline != NONE:  # what has not landed is refused from here on, whoever sent it
            wire = tuple(one for one in s.wire if one[0] != p)
            yield "the deadline passes", to(s._replace(wire=wire), deadline=NONE, zombie=None)
        if part.zombie is not None:
            yield "the former owner sends", to(s._replace(wire=(*s.wire, (p, *part.zombie))), zombie=None)
        if is_open and part.age == YOUNG:
            yield "its intent becomes old", to(age=OLD)
        if is_open and part.age == OLD and part.deadline != GIVEN_YOUNG:  # the memory outlasts them: 2 H > H + D
            yield "its token is forgotten", to(age=UNKNOWN, tok_e=False, tok_w=False)

    def owner(self, s: State, p: int, part: Part, to: To) -> Steps:
        phase = part.phase
        trusted = part.age == YOUNG or not self.r["age"]
        if phase == "none" and not s.raised:
            yield "intent", to(phase="open", deadline=GIVEN_YOUNG)
        elif phase == "open":
            if not trusted:
                yield "dies: its intent is old", to(phase="lease")
            elif part.deadline != NONE:
                yield "sends", to(s._replace(wire=(*s.wire, (p, "insert", 0))), phase="sent")
            elif part.forgotten and self.r["refuse"]:
                yield "renewal refused: forgotten", to(phase="lease")
            else:
                yield "renews", to(deadline=GIVEN_YOUNG if part.age == YOUNG else GIVEN_LATE)
        elif phase == "sent" and not any(one[0] == p for one in s.wire):
            yield "no answer", to(phase="open")
        elif phase == "answered":
            yield "done", to(phase="done", deadline=NONE)
        elif phase == "lease":
            yield from self.lease(s, p)
        elif phase in IN_LEASE:
            yield from self.fill(s, p, part, to)
        if s.deaths and phase in ("open", "sent", "answered", *IN_LEASE):
            young = trusted and not part.forgotten and phase not in IN_LEASE
            zombie = {"open": ("insert", 0), "absent": ("insert", 0), "lacking": ("fill", part.missing)}.get(phase)
            zombie = zombie if part.deadline != NONE else None
            after = "open" if young else "lease"
            yield "is replaced", to(s._replace(deaths=s.deaths - 1), phase=after, zombie=zombie, missing=0)

    def lease(self, s: State, p: int) -> Steps:
        if self.r["raise_cut"] and not s.raised:
            yield "raises the cut", s._replace(raised=True)
            return
        for q, other in enumerate(s.parts):
            waited = self.r["wait"] if q != p else self.r["wait_own"]
            if waited and other.phase not in ("none", "done") and other.deadline != NONE:
                return
        marked = tuple(
            one._replace(forgotten=True) if one.phase not in ("none", "done") and (q == p or self.r["mark"]) else one
            for q, one in enumerate(s.parts)
        )
        holder = marked[p]._replace(phase="leased", deadline=GIVEN_LATE)
        yield "lease", s._replace(parts=put(marked, p, holder))

    def fill(self, s: State, p: int, part: Part, to: To) -> Steps:
        again = "lease" if self.r["once"] else "leased"
        if part.deadline == NONE and part.phase != "leased":
            yield "late: needs a lease", to(phase="lease", missing=0)
        elif part.phase == "leased":  # reads both tables
            missing = sum(one.stored for one in s.parts) - s.windows if self.r["difference"] else 1
            if not part.stored:
                yield "looks: absent", to(phase="absent")
            elif missing > 0:
                yield f"looks: {missing} missing", to(phase="lacking", missing=missing)
            else:
                yield "looks: nothing missing", to(phase="answered")
        elif part.phase in ("absent", "lacking"):
            one = (p, "insert", 0) if part.phase == "absent" else (p, "fill", part.missing)
            yield f"sends {one[1]}", to(s._replace(wire=(*s.wire, one)), phase="filling", missing=0)
        elif not any(one[0] == p for one in s.wire):
            yield "answered: looks again", to(phase="leased" if self.r["difference"] else "answered")
        elif s.deaths:
            yield "no answer", to(s._replace(deaths=s.deaths - 1), phase=again)

    def at_rest(self, s: State) -> bool:
        return not s.wire and all(one.phase in ("none", "done") for one in s.parts)

    def check(self, s: State) -> None:
        stored = sum(one.stored for one in s.parts)
        if any(one.stored > 1 for one in s.parts):
            raise Violation("counted twice in events")
        if s.windows > stored:
            raise Violation(f"counted {s.windows} in windows, truth {stored}")
        done = [one for one in s.parts if one.phase == "done"]
        if not all(one.stored for one in done) or s.windows < len(done):
            raise Violation(f"{len(done)} blocks are done, windows have {s.windows}")
        if self.at_rest(s) and s.windows != stored:
            raise Violation(f"windows have {s.windows}, truth {stored}")


def renumbered(s: State) -> State:
    """Partitions are alike: of states that differ in their numbers alone one is looked at."""
    own = [(repr(part), sorted(one[1:] for one in s.wire if one[0] == p)) for p, part in enumerate(s.parts)]
    order = sorted(range(len(own)), key=own.__getitem__)
    new = {former: p for p, former in enumerate(order)}
    wire = tuple(sorted((new[p], kind, n) for p, kind, n in s.wire))
    return s._replace(parts=tuple(s.parts[p] for p in order), wire=wire)


# Name -> (model, must fail).
RUNS = {
    "completion: the difference, under the lease": (Completion(), False),
    "completion: three partitions, nobody dies": (Completion(partitions=3, deaths=0), False),
    "completion: the cut is not raised": (Completion(raise_cut=False), True),
    "completion: others' deadlines not waited out": (Completion(wait=False), True),
    "completion: own deadline not waited out": (Completion(wait_own=False), True),
    "completion: others not marked": (Completion(mark=False), True),
    "completion: a forgotten intent renewed": (Completion(refuse=False), True),
    "completion: age looked at in the beginning only": (Completion(age=False), True),
    "completion: two attempts under one lease": (Completion(once=False), True),
    "completion: the block's own rows": (Completion(difference=False), True),
}


QUICK = (
    "completion: age looked at in the beginning only",
    "completion: own deadline not waited out",
    "completion: the block's own rows",
)


def main() -> bool:
    chosen = QUICK if os.environ.get("QUICK") else RUNS
    return all([run(name, RUNS[name][0], must_fail=RUNS[name][1], show=False) for name in chosen])


if __name__ == "__main__":
    raise SystemExit(not main())
