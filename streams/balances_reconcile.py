"""Comparing running counters with the usage, a few at a time, for ever: the difference is a metric, and it is zero.

Both sides say the same positions. The cut and the done blocks are read first; once the deltas of those blocks are applied,
a few counters are set aside between two batches; the usage is then read up to exactly the blocks that were applied.
"""

import asyncio
from collections import defaultdict
from collections.abc import Collection
from itertools import islice

import msgspec
import structlog

from domain import balances as fold
from domain.counters import as_read, value_of
from domain.errors import Unavailable
from runtime import metrics
from runtime.settings import BalancesSettings
from schemas.balances import Counter, CounterKey
from schemas.contracts import CustomerContract
from streams.balances_owned import Owned
from streams.balances_seed import Positions, Seeds
from streams.balances_table import BalancesTable

_log = structlog.get_logger(__name__)


class _Aside(msgspec.Struct, frozen=True, kw_only=True):
    """Counters of one partition as they stand at the positions of `at`."""

    partition: int
    owned: Owned
    at: Positions
    counters: list[tuple[str, CustomerContract, Counter]]


class Reconciliation:
    """`run` in the background; the agent calls `offer` between its batches, which reads a few customers at most."""

    def __init__(self, settings: BalancesSettings, table: BalancesTable, seeds: Seeds) -> None:
        self._settings = settings
        self._table = table
        self._seeds = seeds
        self._asked: Positions | None = None
        self._aside: asyncio.Future[_Aside] | None = None
        self._turns: defaultdict[int, int] = defaultdict(int)
        self._last: dict[int, str] = {}
        self._differing: defaultdict[int, set[tuple[str, CounterKey]]] = defaultdict(set)

    async def run(self) -> None:
        """Never returns, unless nothing is to be compared."""
        while self._settings.reconcile_interval_s > 0:
            await asyncio.sleep(self._settings.reconcile_interval_s)
            try:
                await self.once()
            except Unavailable as away:
                _log.info("balances are not compared for now", service=away.service, reason=away.message)

    async def once(self) -> None:
        """One comparison. Waits for the agent's next batch that has caught up. Raises Unavailable."""
        self._asked = await self._seeds.positions()
        self._aside = asyncio.get_running_loop().create_future()
        try:
            aside = await self._aside
        finally:
            self._asked = self._aside = None
        states = await self._seeds.states([(contract, one.key) for _, contract, one in aside.counters], aside.at)
        for (name, _, one), state in zip(aside.counters, states, strict=True):
            read = as_read(one.key, one.aggregation, state, aside.at.vector)
            self._note(aside, name, one, read)
        metrics.balances_compared.inc(len(states))
        metrics.balances_difference.set(sum(len(found) for found in self._differing.values()))

    def offer(self, partition: int, owned: Owned, every: Collection[int]) -> None:
        """Called when the table holds what `owned` says; `every` is all partitions that are owned."""
        asked, aside = self._asked, self._aside
        if asked is None or aside is None or aside.done():
            return
        if self._turns[partition] > min(self._turns[number] for number in every):
            return  # another one's turn
        applied = owned.progress.applied
        if any(applied.get(source, -1) < offset for source, offset in asked.vector.items()):
            return  # its deltas are still on their way
        for number in set(self._differing) - set(every):
            del self._differing[number]
        self._turns[partition] += 1
        at = msgspec.structs.replace(asked, vector=dict(applied))
        aside.set_result(_Aside(partition=partition, owned=owned, at=at, counters=self._some(partition, owned, at)))

    def _some(self, partition: int, owned: Owned, at: Positions) -> list[tuple[str, CustomerContract, Counter]]:
        found: list[tuple[str, CustomerContract, Counter]] = []
        room = self._settings.reconcile_batch
        customers = list(islice(self._table.customers_of(partition, self._last.get(partition, "")), room))
        self._last[partition] = customers[-1][0] if len(customers) == room else ""  # then from the first one on
        for name, held in customers:
            if held.contract.version > at.version:
                continue  # blocks that do not know the customer by all its names are still to come
            balances = fold.behind(held, owned.progress.floor)
            found += [(name, held.contract, one) for one in fold.comparable(balances, at.vector)]
        return found

    def _note(self, aside: _Aside, name: str, counted: Counter, read: Counter) -> None:
        place = (name, counted.key)
        if value_of(counted) == value_of(read):
            self._differing[aside.partition].discard(place)
            return
        self._differing[aside.partition].add(place)
        _log.error(
            "a balance differs from the usage and is read again",
            customer=name,
            meter=counted.key.meter_id,
            generation=counted.key.generation,
            start_s=counted.key.start_s,
            end_s=counted.key.end_s,
            balance=str(value_of(counted)),
            usage=str(value_of(read)),
        )
        aside.owned.differing.setdefault(name, set()).add(counted.key)
