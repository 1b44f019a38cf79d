"""What must hold: the protocol as the code has it, and other sound choices. Minutes.

python -m docs.protocol.scenarios [NAME ...]
"""

import os
import sys
from typing import Any

from docs.protocol.explore import run
from docs.protocol.model import Ingest
from docs.protocol.rules import Left

Scenario = tuple[str, Left, dict[str, Any]]

PIPELINE = {"pipeline": "on"}
BEFORE_DONE = {"deltas": "before_done", "seed": "intent"}

SCENARIOS: dict[str, Scenario] = {
    "zombie": ("aab", Left(rebalance=1, timeout=1, crash=1), {}),
    "back": ("abb", Left(rebalance=2), {}),
    "retry": ("aba", Left(rebalance=1, timeout=2, server=1), {}),
    "versions": ("aba", Left(rebalance=1, cat=1, crash=1), {}),
    "midnight": ("ba", Left(rebalance=1, day=1, timeout=1), {}),
    "forgotten": ("aa", Left(rebalance=1, noise=1, timeout=1, server=1, crash=1), {}),
    "race": ("aba", Left(rebalance=1, drop=1, crash=1), {}),
    "seed": ("aba", Left(rebalance=1, crash=1, seed=1), {}),
    "generations": ("aa", Left(rebalance=1, forget=1, crash=1), {}),
    "generations, an hour": ("aa", Left(rebalance=1, forget=1, hour=1), {}),
    "generations, back": ("aa", Left(rebalance=2, forget=1), {}),
    "pipeline": ("aab", Left(rebalance=1, crash=1), PIPELINE),
    "pipeline, back": ("aba", Left(rebalance=2), PIPELINE),
    "pipeline, retry": ("aab", Left(rebalance=1, timeout=1, server=1), PIPELINE),
    "pipeline, seed": ("aba", Left(rebalance=1, seed=1), PIPELINE),
    "pipeline, forgotten": ("ab", Left(rebalance=1, noise=1, timeout=1, server=1), PIPELINE),
}
VARIANTS: dict[str, Scenario] = {
    "zombie, deltas before done": (*SCENARIOS["zombie"][:2], BEFORE_DONE),
    "seed, deltas before done, cut at the last intent": (*SCENARIOS["seed"][:2], BEFORE_DONE),
    "zombie, known at any other position is a duplicate": (*SCENARIOS["zombie"][:2], {"dedup": "position"}),
    "back, filter ahead of the ledger": (*SCENARIOS["back"][:2], {"filter": "ahead"}),
}
# Small enough to look whether each state has a way to rest, too.
LIVE = ("midnight", "generations", "generations, an hour", "pipeline, forgotten")
QUICK = ("back", "midnight", "pipeline, back")


def holds(name: str) -> bool:
    ids, left, rules = {**SCENARIOS, **VARIANTS}[name]
    return run(name, Ingest(ids, left, **rules), must_fail=False, show=True, live=name in LIVE)


def main(names: list[str]) -> bool:
    chosen = names or (QUICK if os.environ.get("QUICK") else [*SCENARIOS, *VARIANTS])
    return all([holds(name) for name in chosen])


if __name__ == "__main__":
    raise SystemExit(not main(sys.argv[1:]))
