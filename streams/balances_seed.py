"""Reading counters from the usage: those that a contract selects for the first time, and those that deltas cannot tell.

The read is exact: its positions come from the ledger before the data, and become the guard of the counter (protocol 4,
10, 27). What it cannot read yet stays to be read by a later batch; nothing waits for it.
"""

from collections import defaultdict
from collections.abc import Sequence
from datetime import datetime, timedelta

import msgspec

from domain import balances as fold
from domain.counters import end_of, start_of
from runtime.clock import Clock
from schemas.balances import CounterKey, CustomerBalances
from schemas.contracts import CustomerContract
from schemas.meters import Aggregation
from schemas.usage import UsageRange, UsageState
from stores.clickhouse.client import ClickhouseClient
from stores.clickhouse.usage_many import usage_of_many_at_positions
from stores.postgres.cuts import Cuts
from stores.postgres.ledger import Ledger

# Counters read by one batch: the rest by the next ones, so that no batch holds the deltas up for long.
MAX_COUNTERS = 2_000
# Of the time, at most one part in so many is spent on reading again what was touched.
PAUSE_FACTOR = 10
PAUSE_MAX = timedelta(seconds=2)


class Positions(msgspec.Struct, frozen=True, kw_only=True):
    """Where a read stands: blocks below the cut, and up to these offsets; at least `version` everywhere."""

    cut_below: int
    vector: dict[int, int]
    version: int


class Wish(msgspec.Struct, frozen=True, kw_only=True):
    """Counters of one customer to be read."""

    name: str
    contract: CustomerContract
    keys: dict[CounterKey, Aggregation]


class Seeds:
    """Reads counters in as few statements as there are tenants."""

    def __init__(self, ledger: Ledger, cuts: Cuts, clickhouse: ClickhouseClient, topic_id: str) -> None:
        self._ledger = ledger
        self._cuts = cuts
        self._clickhouse = clickhouse
        self._topic_id = topic_id

    async def positions(self) -> Positions:
        """In this order: the cut, the oldest open block, the done blocks. So whatever lies below the cut is done, and
        whatever is done by then lies within the vector. Raises Unavailable.
        """
        current = await self._cuts.current()
        oldest = await self._cuts.oldest_open()
        partitions = await self._ledger.progress(self._topic_id)
        return Positions(
            cut_below=current if oldest is None else min(current, oldest),
            vector={one.partition: one.last_offset for one in partitions},
            # protocol 4: before every partition took the version over, deltas did not name the customer yet.
            version=min((one.version for one in partitions), default=0),
        )

    async def read(
        self, wishes: Sequence[Wish], held: dict[str, CustomerBalances], at: Positions
    ) -> dict[str, CustomerBalances]:
        """`held` with what was wished for, by name. Raises Unavailable; safe to repeat."""
        found = dict(held)
        wanted = [(wish, key, aggregation) for wish in wishes for key, aggregation in wish.keys.items()]
        states = await self.states([(wish.contract, key) for wish, key, _ in wanted], at)
        for (wish, key, aggregation), state in zip(wanted, states, strict=True):
            found[wish.name] = fold.with_reading(found[wish.name], key, aggregation, state, at.vector)
        return found

    async def states(
        self, counters: Sequence[tuple[CustomerContract, CounterKey]], at: Positions
    ) -> Sequence[UsageState]:
        """What the usage says of each counter, in order. Raises Unavailable."""
        by_scope: defaultdict[tuple[str, str], list[int]] = defaultdict(list)
        for place, (contract, _) in enumerate(counters):
            by_scope[contract.tenant, contract.environment].append(place)
        found = [UsageState()] * len(counters)
        for (tenant, environment), places in by_scope.items():
            states = await usage_of_many_at_positions(
                self._clickhouse,
                tenant,
                environment,
                [_range(*counters[place]) for place in places],
                cut_below=at.cut_below,
                topic_id=self._topic_id,
                vector=at.vector,
            )
            for place, state in zip(places, states, strict=True):
                found[place] = state
        return found


class Pace:
    """When counters that were touched are read again: a read is followed by a pause of several times its length."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._resume_at: datetime | None = None
        self._began_at: datetime | None = None

    def may_reread(self) -> bool:
        return self._resume_at is None or self._clock.now() >= self._resume_at

    def begin(self) -> None:
        self._began_at = self._clock.now()

    def end(self) -> None:
        now = self._clock.now()
        if self._began_at is not None:
            self._resume_at = now + min(PAUSE_FACTOR * (now - self._began_at), PAUSE_MAX)


def _range(contract: CustomerContract, key: CounterKey) -> UsageRange:
    return UsageRange(
        meter_id=key.meter_id,
        generation=key.generation,
        references=tuple(contract.references),
        start=start_of(key),
        end=end_of(key),
    )
