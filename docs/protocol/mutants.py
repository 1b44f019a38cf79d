"""One rule off at a time: each must be found, or else the model proves nothing.

python -m docs.protocol.mutants             all; exits 1 if one survives
python -m docs.protocol.mutants "NAME"      that one, with its shortest failing interleaving
"""

import os
import sys
from typing import Any

from docs.protocol.explore import run
from docs.protocol.model import Ingest
from docs.protocol.scenarios import LIVE, SCENARIOS

# Name -> (scenario, changed rules).
MUTANTS: dict[str, tuple[str, dict[str, Any]]] = {
    "no fencing, no chain": ("zombie", {"fencing": False, "chain": False}),
    "no contiguity guard, no chain": ("race", {"contiguity": False, "chain": False}),
    "epoch checked before the write, not with it": ("zombie", {"cas": False}),
    "no check of an idle partition": ("race", {"idle_check": False}),
    "claim instead of position": ("zombie", {"dedup": "claim"}),
    "no token": ("retry", {"token": "none"}),
    "token per attempt": ("zombie", {"token": "attempt"}),
    "composition not fixed by the intent": ("zombie", {"composition": "own"}),
    "token window of 1, no deadline": ("zombie", {"window": 1, "deadline": False}),
    "tokens forgotten, no deadline": ("forgotten", {"deadline": False}),
    "tokens forgotten, no look": ("forgotten", {"look": "no"}),
    "look without completing windows": ("forgotten", {"look": "skip"}),
    "look before the deadline passed": ("forgotten", {"look": "hasty"}),
    "ack before insert": ("zombie", {"ack": "first"}),
    "done blocks not skipped, no chain": ("zombie", {"resume": "commit", "chain": False, "contiguity": False}),
    "filter rebuilt before fencing": ("back", {"rebuild": "before_fence"}),
    "filter rebuilt from a lagging replica": ("back", {"filter": "lagging"}),
    "stale local filter": ("back", {"filter": "stale"}),
    "filter ahead, known anywhere is a duplicate": ("back", {"filter": "ahead", "dedup": "position"}),
    "inherited block not re-evaluated": ("zombie", {"reevaluate": False}),
    "catalog version not in the intent": ("versions", {"versions": "current"}),
    "catalog version may go back": ("versions", {"monotone": False}),
    "too old judged by the worker's clock": ("midnight", {"clock": "worker"}),
    "ingestion day of the insert": ("midnight", {"day": "send"}),
    "deltas before the ack, not before done": ("zombie", {"deltas": "before_ack"}),
    "deltas not awaited": ("zombie", {"await": False}),
    "no guard in balances": ("zombie", {"guard": "none"}),
    "deltas before done, seed cut at the last done block": ("seed", {"deltas": "before_done"}),
    "an older generation refused for ever": ("generations", {"generation": "strict"}),
    "next block judged before this one is in the filter": ("pipeline", {"pipeline": "unentered"}),
    "next block goes on before the deltas of this one": ("pipeline", {"pipeline": "loose"}),
    "pipelined, no fencing, no chain": ("pipeline", {"fencing": False, "chain": False}),
    "pipelined, tokens forgotten, no look": ("pipeline, forgotten", {"look": "no"}),
}
# These alone hold: another rule is a second net. A test of the code that cuts one must cut both (protocol 15), and
# protocol 19 is there to spare restarts, not to keep counts right.
MASKED: dict[str, tuple[str, dict[str, Any]]] = {
    "no fencing": ("zombie", {"fencing": False}),
    "no contiguity guard": ("race", {"contiguity": False}),
    "any generation may take over": ("generations", {"generation": "none"}),
}
QUICK = (
    "no token",
    "filter rebuilt before fencing",
    "too old judged by the worker's clock",
    "ingestion day of the insert",
    "next block judged before this one is in the filter",
    "an older generation refused for ever",
)


def as_expected(name: str, *, show: bool = False) -> bool:
    scenario, rules = {**MUTANTS, **MASKED}[name]
    ids, left, base = SCENARIOS[scenario]
    model = Ingest(ids, left, **{**base, **rules})
    return run(name, model, must_fail=name in MUTANTS, show=show, live=scenario in LIVE and name in MASKED)


def main(names: list[str]) -> bool:
    chosen = names or (QUICK if os.environ.get("QUICK") else [*MUTANTS, *MASKED])
    return all([as_expected(name, show=bool(names)) for name in chosen])


if __name__ == "__main__":
    raise SystemExit(not main(sys.argv[1:]))
