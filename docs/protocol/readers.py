"""Two small models beside the partition's: a zombie balances worker on its changelog, and usage read at a cutoff.

python -m docs.protocol.readers    the rules hold, each mutant fails
"""

from collections.abc import Iterator
from typing import Any

from docs.protocol.explore import run
from docs.protocol.rules import Violation, put


class Changelog:
    """Balances workers A and B on one counter: deltas 1..n, a changelog written late by a zombie, then recovery.

    A record is (tenure of its writer, deltas applied). Compaction keeps the last record, `outlived` not before the owner
    has written its own once more after a late one.
    """

    def __init__(self, recover: str = "greatest", n: int = 2, compaction: str = "outlived", handovers: int = 2) -> None:
        self.recover, self.n, self.compaction, self.handovers = recover, n, compaction, handovers
        # committed, owner, changelog, handovers left, workers (pc, tenure, value = deltas applied, next delta to read)
        self.start: Any = (0, 0, (), handovers, (("start", 0, 0, 0), ("off", 0, 0, 0)))

    def successors(self, s: Any) -> Iterator[tuple[str, Any]]:
        committed, owner, log, moves, ws = s
        if moves:
            o = 1 - owner
            yield f"rebalance to {'AB'[o]}", (committed, o, log, moves - 1, put(ws, o, ("start", 0, 0, 0)))
        if len(log) > 1 and (self.compaction == "eager" or log[-1] == max(log)):
            yield "compaction", (committed, owner, log[-1:], moves, ws)
        for me, (pc, tenure, value, nxt) in enumerate(ws):

            def to(w: Any, committed: int = committed, log: Any = log, me: int = me) -> Any:
                return committed, owner, log, moves, put(ws, me, w)

            if pc == "start":
                last, greatest = log[-1:], (max(log),) if log else ()
                _, kept = next(iter(greatest if self.recover == "greatest" else last), (0, 0))
                # The group's generation: a later owner's is greater, whatever of the former ones has arrived.
                yield f"{'AB'[me]}: recovers {kept}", to(("open", self.handovers - moves, kept, committed))
            elif pc == "open" and nxt < self.n:
                yield f"{'AB'[me]}: applies {nxt}", to(("write", tenure, value + (nxt >= value), nxt + 1))
            elif pc == "write":
                yield f"{'AB'[me]}: changelog {value}", to(("commit", tenure, value, nxt), log=(*log, (tenure, value)))
            elif pc == "commit":
                ok = owner == me
                after = ("open" if ok else "off", tenure, value, nxt)
                yield f"{'AB'[me]}: commits {nxt}", to(after, committed=nxt if ok else committed)
            if pc == "open" and me == owner and log and log[-1][0] < tenure:
                yield f"{'AB'[me]}: outlives {log[-1][1]}", to((pc, tenure, value, nxt), log=(*log, (tenure, value)))

    def at_rest(self, s: Any) -> bool:  # noqa: ARG002 - nobody waits for anybody here
        return True

    def check(self, s: Any) -> None:
        committed, owner, _, _, ws = s
        pc, _, value, nxt = ws[owner]
        if pc == "open" and nxt == self.n == committed and value != self.n:
            raise Violation(f"balance {value}, truth {self.n}")


class Cutoff:
    """Two partitions; blocks carry the cut of their intent; a cut is read once its intents are done."""

    def __init__(self, stamp: str = "intent", *, wait: bool = True) -> None:
        self.stamp, self.wait = stamp, wait  # stamp "none": windows as they are now
        self.start: Any = (
            0,
            ((), ()),
            (),
            None,
        )  # cut, per partition (state, cut) of each block, windows, first reading

    def successors(self, s: Any) -> Iterator[tuple[str, Any]]:
        cut, parts, win, read = s
        if cut == 0:
            yield "cut 1", (1, parts, win, read)
        for p, blocks in enumerate(parts):
            is_open = bool(blocks) and blocks[-1][0] == "intent"
            if len(blocks) < 2 and not is_open:
                yield f"{p}: intent at {cut}", (cut, put(parts, p, (*blocks, ("intent", cut))), win, read)
            if is_open:
                at = blocks[-1][1]
                after = put(parts, p, (*blocks[:-1], ("done", at)))
                yield f"{p}: done", (cut, after, tuple(sorted((*win, at))), read)
        open_before = any(block == ("intent", 0) for blocks in parts for block in blocks)
        if cut == 1 and read is None and not (self.wait and open_before):
            yield "invoice reads", (cut, parts, win, self.usage(win))

    def usage(self, win: tuple[int, ...]) -> int:
        return len(win) if self.stamp == "none" else sum(c < 1 for c in win)

    def at_rest(self, s: Any) -> bool:  # noqa: ARG002
        return True

    def check(self, s: Any) -> None:
        if s[3] is not None and self.usage(s[2]) != s[3]:
            raise Violation(f"usage at the cutoff was {s[3]}, later {self.usage(s[2])}")


# Name -> (model, must fail).
RUNS: dict[str, tuple[Any, bool]] = {
    "changelog: greatest tenure, late records outlived": (Changelog(n=3, handovers=3), False),
    "changelog: last record wins": (Changelog("last"), True),
    "changelog: compaction before they are outlived": (Changelog(compaction="eager"), True),
    "cutoff: cut in the intent": (Cutoff(), False),
    "cutoff: windows as they are now": (Cutoff("none"), True),
    "cutoff: open intents not awaited": (Cutoff(wait=False), True),
}


def main() -> bool:
    return all([run(name, model, must_fail=fails, show=False) for name, (model, fails) in RUNS.items()])


if __name__ == "__main__":
    raise SystemExit(not main())
