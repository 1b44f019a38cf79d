"""Balances of a customer as a fold of contracts, deltas and seeds: pure, the worker brings the records and the time.

Whatever the order in which source partitions arrive, however often a block is repeated and at whatever point a counter
is seeded, the same blocks give the same counters (protocol 3, 4, 22, 23).
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import datetime, timedelta

from msgspec.structs import replace

from domain import counters
from domain.counters import MeterGeneration
from domain.entitlements import combined, crossings
from domain.money import ZERO
from schemas.balances import Counter, CounterKey, CustomerBalances
from schemas.contracts import CounterState, CustomerContract, Entitlement, ThresholdCrossed
from schemas.deltas import UsageChange
from schemas.meters import Aggregation
from schemas.usage import UsageState

# A counter outlives its period for late events, whose thresholds are still told.
KEPT_AFTER_END = timedelta(hours=1)
_MS = 1000


def by_customer(changes: Iterable[UsageChange]) -> dict[str, dict[MeterGeneration, list[UsageChange]]]:
    """The changes of a block under `tenant/environment/customer id` and meter generation."""
    found: dict[str, dict[MeterGeneration, list[UsageChange]]] = {}
    for change in changes:
        key = f"{change.tenant}/{change.environment}/{change.customer_id}"
        own = found.setdefault(key, {})
        own.setdefault((change.meter_id, change.generation), []).append(change)
    return found


def with_block(
    balances: CustomerBalances,
    partition: int,
    last_offset: int,
    changes: Mapping[MeterGeneration, Sequence[UsageChange]],
) -> CustomerBalances:
    """After one block of a source partition. A block that every guard covers changes nothing."""
    changed = tuple(counters.applied(one, partition, last_offset, changes) for one in balances.counters)
    if all(after is before for after, before in zip(changed, balances.counters, strict=True)):
        return balances
    return replace(balances, counters=changed)


def with_contract(balances: CustomerBalances | None, contract: CustomerContract, now: datetime) -> CustomerBalances:
    """The greatest version wins, not the last record. Counters stay where the contract still selects them.

    Another set of references counts other events: every counter is then read again.
    """
    if balances is None:
        return CustomerBalances(version=(-1, -1), contract=contract)
    if contract.version <= balances.contract.version:
        return balances
    renamed = set(contract.references) != set(balances.contract.references)
    kept = balances.counters
    if renamed:
        kept = tuple(replace(one, due=True) for one in kept)
    return pruned(replace(balances, contract=contract, counters=kept), now)


def pruned(balances: CustomerBalances, now: datetime) -> CustomerBalances:
    """Without counters that nothing selects any more, a while after their end."""
    keys, _ = counters.wanted(balances.contract, now)
    metered = {(held.meter_id, held.generation) for held in balances.contract.entitlements if held.kind == "metered"}

    def is_kept(one: Counter) -> bool:
        if one.key in keys:
            return True
        end = counters.end_of(one.key)
        return (one.key.meter_id, one.key.generation) in metered and end <= now < end + KEPT_AFTER_END

    kept = tuple(one for one in balances.counters if is_kept(one))
    if len(kept) == len(balances.counters):
        return balances
    starts = {_period_text(one.key) for one in kept}
    crossed = tuple(text for text in balances.crossed if text.rsplit("/", 1)[0].rsplit("@", 1)[1] in starts)
    return replace(balances, counters=kept, crossed=crossed)


def to_read(balances: CustomerBalances, now: datetime) -> dict[CounterKey, Aggregation]:
    """Counters to be read from the usage: those that are absent and those that are due."""
    keys, _ = counters.wanted(balances.contract, now)
    held = {one.key for one in balances.counters}
    found = {key: aggregation for key, aggregation in keys.items() if key not in held}
    return found | {one.key: one.aggregation for one in balances.counters if one.due}


def with_reading(
    balances: CustomerBalances, key: CounterKey, aggregation: Aggregation, state: UsageState, guard: Mapping[int, int]
) -> CustomerBalances:
    """With the counter as it was read at exactly the positions of `guard`, which were read first (protocol 4, 27)."""
    others = [one for one in balances.counters if one.key != key]
    read = counters.as_read(key, aggregation, state, guard)
    return replace(balances, counters=tuple(sorted([*others, read], key=lambda one: one.key)))


def comparable(balances: CustomerBalances, applied: Mapping[int, int]) -> list[Counter]:
    """The counters that hold the usage up to exactly the positions of `applied`: all but those that are to be read, and
    those that were read further on.
    """
    return [one for one in balances.counters if not one.due and _covers(applied, one.guard)]


def behind(balances: CustomerBalances, floor: Mapping[int, int]) -> CustomerBalances:
    """With every counter to be read again whose guard does not cover `floor`."""
    if all(one.due or _covers(one.guard, floor) for one in balances.counters):
        return balances
    return replace(
        balances,
        counters=tuple(one if _covers(one.guard, floor) else replace(one, due=True) for one in balances.counters),
    )


def with_due(balances: CustomerBalances, keys: Collection[CounterKey]) -> CustomerBalances:
    """With these counters, where it has them, to be read again."""
    return replace(
        balances, counters=tuple(replace(one, due=True) if one.key in keys else one for one in balances.counters)
    )


def with_crossings(balances: CustomerBalances, now: datetime) -> tuple[CustomerBalances, list[ThresholdCrossed]]:
    """What is to be told: each (feature, subscription, period, percent) once, however usage got there."""
    told = set(balances.crossed)
    fresh: list[tuple[str, ThresholdCrossed]] = []
    by_key = {one.key: one for one in balances.counters}
    for key, counter in by_key.items():
        usage = counters.value_of(counter)
        if usage is None or usage <= 0:
            continue
        for held in _selecting(balances.contract, key, now):
            for crossing in crossings(ZERO, usage, held.limit, held.thresholds):
                text = f"{held.feature_key}/{held.subscription_id}@{_period_text(key)}/{crossing.percent}"
                if text in told or held.limit is None:
                    continue
                told.add(text)
                fresh.append(
                    (
                        text,
                        ThresholdCrossed(
                            tenant=balances.contract.tenant,
                            environment=balances.contract.environment,
                            customer_id=balances.contract.customer_id,
                            feature_key=held.feature_key,
                            subscription_id=held.subscription_id,
                            threshold_percent=crossing.percent,
                            usage=usage,
                            limit=held.limit,
                            start_at=counters.start_of(key),
                            end_at=counters.end_of(key),
                            crossed_at_ms=int(now.timestamp() * _MS),
                        ),
                    )
                )
    if not fresh:
        return balances, []
    crossed = (*balances.crossed, *(text for text, _ in fresh))
    return replace(balances, crossed=crossed), [event for _, event in fresh]


def threshold_key(crossed: ThresholdCrossed) -> str:
    """The idempotency key of a crossing."""
    owner = f"{crossed.tenant}/{crossed.environment}/{crossed.customer_id}"
    period = f"{int(crossed.start_at.timestamp())}-{int(crossed.end_at.timestamp())}"
    return f"{owner}/{crossed.feature_key}/{crossed.subscription_id}/{period}/{crossed.threshold_percent}"


def counter_states(balances: CustomerBalances) -> list[CounterState]:
    return [
        CounterState(
            meter_id=one.key.meter_id,
            generation=one.key.generation,
            aggregation=one.aggregation,
            start_at=counters.start_of(one.key),
            end_at=counters.end_of(one.key),
            value=counters.value_of(one),
        )
        for one in balances.counters
    ]


def _covers(guard: Mapping[int, int], floor: Mapping[int, int]) -> bool:
    return all(guard.get(partition, -1) >= offset for partition, offset in floor.items())


def _selecting(contract: CustomerContract, key: CounterKey, now: datetime) -> list[Entitlement]:
    """The entitlements, added up, that a counter counts for at `now`, or at the edge of its period nearest to it."""
    start, last = counters.start_of(key), counters.end_of(key) - timedelta(seconds=1)
    at = min(max(now, start), last)
    metered = [
        held
        for held in contract.entitlements
        if held.kind == "metered" and (held.meter_id, held.generation) == (key.meter_id, key.generation)
    ]
    return [
        held for held in combined(metered, at) if counters.counter_key(held, counters.counted_period(held, at)) == key
    ]


def _period_text(key: CounterKey) -> str:
    return f"{key.start_s}-{key.end_s}"
