"""Comparing counters with the usage: at equal positions only, a few at a time, and what differs is read again."""

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from decimal import Decimal
from typing import Any

from domain import balances as fold
from runtime import metrics
from runtime.settings import BalancesSettings
from schemas.balances import CounterKey, CustomerBalances, DeltasProgress
from schemas.contracts import CustomerContract
from schemas.usage import UsageState
from streams.balances_owned import Owned
from streams.balances_reconcile import Reconciliation
from streams.balances_seed import Positions
from tests.support.entitlements import NOW, held

NAMES = ("acme/live/a", "acme/live/b", "acme/live/c")


class Usage:
    """What the stores say: 7 of every counter, up to `vector`."""

    def __init__(self, vector: Mapping[int, int]) -> None:
        self.vector = dict(vector)
        self.asked: list[tuple[int, dict[int, int]]] = []

    async def positions(self) -> Positions:
        return Positions(cut_below=2, vector=self.vector, version=1)

    async def states(
        self, counters: Sequence[tuple[CustomerContract, CounterKey]], at: Positions
    ) -> Sequence[UsageState]:
        self.asked.append((len(counters), at.vector))
        return [UsageState(matches=7, values=7, total=Decimal(7))] * len(counters)


class Table:
    def __init__(self, customers: dict[str, CustomerBalances]) -> None:
        self.customers = customers

    def customers_of(self, _: int, after: str = "") -> Iterator[tuple[str, CustomerBalances]]:
        return iter(sorted((name, one) for name, one in self.customers.items() if name > after))


def customer(total: int, guard: dict[int, int], *, version: int = 1, due: bool = False) -> CustomerBalances:
    contract = CustomerContract(
        version=version, tenant="acme", environment="live", customer_id="a", references=["a"], entitlements=[held()]
    )
    balances = fold.with_contract(None, contract, NOW)
    for key, aggregation in fold.to_read(balances, NOW).items():
        state = UsageState(matches=total, values=total, total=Decimal(total))
        balances = fold.with_reading(balances, key, aggregation, state, guard)
    return fold.with_due(balances, {one.key for one in balances.counters}) if due else balances


def owned(applied: dict[int, int]) -> Owned:
    progress = DeltasProgress(version=(1, 1), topic_id="t", applied=applied)
    return Owned(progress, next_deltas=0, next_contracts=0)


async def compared(reconciliation: Reconciliation, held: Owned) -> None:
    once = asyncio.create_task(reconciliation.once())
    while not once.done():
        await asyncio.sleep(0)
        reconciliation.offer(0, held, {0: held})


def started(customers: dict[str, CustomerBalances], usage: Usage, batch: int = 10) -> Reconciliation:
    parts: tuple[Any, Any] = (Table(customers), usage)
    return Reconciliation(BalancesSettings(reconcile_batch=batch), *parts)


def differences() -> float:
    return metrics.REGISTRY.get_sample_value("meterstream_balances_difference") or 0.0


async def test_a_difference_is_counted_marked_to_be_read_again_and_gone_once_it_is() -> None:
    customers = {NAMES[0]: customer(7, {0: 5}), NAMES[1]: customer(8, {0: 5})}
    usage, partition = Usage({0: 5}), owned({0: 6})
    reconciliation = started(customers, usage)
    await compared(reconciliation, partition)
    assert usage.asked == [(4, {0: 6})]  # of this period and of the next, at what was applied
    assert partition.differing == {NAMES[1]: {one.key for one in customers[NAMES[1]].counters}}
    assert differences() == 2
    customers[NAMES[1]] = customer(7, {0: 6})
    await compared(reconciliation, partition)
    assert differences() == 0


async def test_what_does_not_stand_at_the_positions_is_left_for_another_time() -> None:
    customers = {
        NAMES[0]: customer(1, {0: 9}),  # read further on
        NAMES[1]: customer(1, {0: 5}, due=True),
        NAMES[2]: customer(1, {0: 5}, version=2),  # not every block knows it yet
    }
    usage = Usage({0: 5})
    await compared(started(customers, usage), owned({0: 5}))
    assert usage.asked == [(0, {0: 5})]


async def test_a_partition_whose_deltas_are_on_their_way_is_waited_for() -> None:
    usage, behind = Usage({0: 5}), owned({0: 4})
    reconciliation = started({NAMES[0]: customer(7, {0: 4})}, usage)
    once = asyncio.create_task(reconciliation.once())
    for _ in range(3):
        await asyncio.sleep(0)
        reconciliation.offer(0, behind, {0: behind})
    assert not once.done()
    caught_up = owned({0: 5})
    reconciliation.offer(0, caught_up, {0: caught_up})
    await once
    assert usage.asked == [(2, {0: 5})]


async def test_customers_are_compared_a_few_at_a_time_and_then_again_from_the_first() -> None:
    usage, partition = Usage({0: 5}), owned({0: 5})
    reconciliation = started({name: customer(7, {0: 5}) for name in NAMES}, usage, batch=2)
    for _ in range(4):
        await compared(reconciliation, partition)
    assert [count for count, _ in usage.asked] == [4, 2, 4, 2]
