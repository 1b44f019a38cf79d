"""Every balance that checks are answered from, beside the usage of its period."""

import asyncio
from collections.abc import Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from typing import NamedTuple

import msgspec

from runtime.clock import Clock
from runtime.settings import KafkaSettings
from schemas.contracts import CounterState, EntitlementsState
from schemas.meters import Aggregation
from schemas.reconciliation import BalanceDifference, BalancesReport
from schemas.scope import Scope
from schemas.usage import UsageRange
from stores.clickhouse.aggregates import value_of
from stores.clickhouse.client import ClickhouseClient
from stores.clickhouse.usage_many import usage_of_many
from stores.entitlement_states import PartitionStates, partition_states

# All that is stored: a cut that is never reached.
NOW = (1 << 62) - 1
COUNTERS_A_READ = 500
# A balance follows its usage within a second or so; what still differs after this, and stands still, is wrong.
SETTLED_WITHIN_S = 20.0
LOOK_AGAIN_S = 1.0


class _Held(NamedTuple):
    """One counter as the topic has it."""

    key: bytes
    state: EntitlementsState
    counter: CounterState


class _Look(NamedTuple):
    balance: Decimal | None
    usage: Decimal | None


# Of a customer: (key, meter, generation, start, end).
_Place = tuple[bytes, str, int, object, object]


async def reconcile_balances(settings: KafkaSettings, clickhouse: ClickhouseClient, clock: Clock) -> BalancesReport:
    """Counters of periods that run: those that checks are answered from, a late event is told of no other.

    A partition at a time: memory grows with the customers of one. Raises Unavailable.
    """
    customers = counters = moving = 0
    differences: list[BalanceDifference] = []
    for partition in range(settings.balance_partitions):
        async with partition_states(settings, partition) as states:
            held = _held(await states.read_on(), clock.now())
            customers += len({one.key for one in held})
            counters += len(held)
            differing, changing = await _compare(states, held, clickhouse, clock)
            moving += changing
            differences += differing
    return BalancesReport(customers=customers, counters=counters, moving=moving, differences=tuple(differences))


async def _compare(
    states: PartitionStates, held: Sequence[_Held], clickhouse: ClickhouseClient, clock: Clock
) -> tuple[list[BalanceDifference], int]:
    """What differs for as long as we look and stands still meanwhile; and how many kept moving."""
    seen = _differing(held, await _usage(held, clickhouse))
    ends_at = asyncio.get_running_loop().time() + SETTLED_WITHIN_S
    moved: set[_Place] = set()
    while seen and asyncio.get_running_loop().time() < ends_at:
        await asyncio.sleep(LOOK_AGAIN_S)
        again = [one for one in _held(await states.read_on(), clock.now()) if _place(one) in seen]
        now = _differing(again, await _usage(again, clickhouse))
        moved = {place for place, look in now.items() if look != seen[place]}
        seen = now
    by_place = {_place(one): one for one in held}
    found = [_difference(by_place[place], look) for place, look in seen.items() if place not in moved]
    return found, len(moved)


def _held(states: Mapping[bytes, EntitlementsState], now: datetime) -> list[_Held]:
    return [
        _Held(key, state, counter)
        for key, state in states.items()
        for counter in state.counters
        if counter.start_at <= now < counter.end_at
    ]


def _place(held: _Held) -> _Place:
    counter = held.counter
    return (held.key, counter.meter_id, counter.generation, counter.start_at, counter.end_at)


async def _usage(held: Sequence[_Held], clickhouse: ClickhouseClient) -> dict[_Place, Decimal | None]:
    by_scope: dict[tuple[str, str], list[_Held]] = {}
    for one in held:
        contract = one.state.contract
        by_scope.setdefault((contract.tenant, contract.environment), []).append(one)
    found: dict[_Place, Decimal | None] = {}
    for (tenant, environment), all_of_scope in by_scope.items():
        for first in range(0, len(all_of_scope), COUNTERS_A_READ):
            some = all_of_scope[first : first + COUNTERS_A_READ]
            ranges = [(Scope(tenant, environment), _range(one)) for one in some]
            states = await usage_of_many(clickhouse, ranges, NOW)
            for one, state in zip(some, states, strict=True):
                found[_place(one)] = value_of(state, msgspec.convert(one.counter.aggregation, Aggregation))
    return found


def _range(held: _Held) -> UsageRange:
    counter = held.counter
    return UsageRange(
        meter_id=counter.meter_id,
        generation=counter.generation,
        references=tuple(held.state.contract.references),
        start=counter.start_at,
        end=counter.end_at,
    )


def _differing(held: Sequence[_Held], usage: Mapping[_Place, Decimal | None]) -> dict[_Place, _Look]:
    looks = {_place(one): _Look(one.counter.value, usage[_place(one)]) for one in held}
    return {place: look for place, look in looks.items() if look.balance != look.usage}


def _difference(held: _Held, look: _Look) -> BalanceDifference:
    contract, counter = held.state.contract, held.counter
    return BalanceDifference(
        tenant=contract.tenant,
        environment=contract.environment,
        customer_id=contract.customer_id,
        meter_id=counter.meter_id,
        start_at=counter.start_at,
        end_at=counter.end_at,
        balance=look.balance,
        usage=look.usage,
    )
