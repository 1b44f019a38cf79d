"""Counters: which ones a contract selects, how a block changes them, what they are worth."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from decimal import Decimal

from msgspec.structs import replace

from domain.aggregates import average, greatest, later, least
from domain.money import EXACT
from domain.periods import next_period, period_at
from schemas.balances import Counter, CounterKey
from schemas.contracts import CustomerContract, Entitlement
from schemas.deltas import UsageChange
from schemas.meters import Aggregation
from schemas.periods import FOREVER, Cadence, Period
from schemas.usage import UsageState

# What cannot be added up from deltas: read again when touched (protocol 27).
REREAD: frozenset[Aggregation] = frozenset({"unique_count"})

MeterGeneration = tuple[str, int]


def counted_period(entitlement: Entitlement, instant: datetime) -> Period:
    """The usage period of a metered entitlement that holds `instant`, at or after its start.

    The first period begins with the subscription, as the bill does: what was used before is not counted.
    """
    since = counts_from(entitlement)
    cadence = _cadence(entitlement)
    if cadence.unit == "never":
        return Period(start=since, end=FOREVER, index=0)
    period = period_at(entitlement.anchor_at or since, cadence, entitlement.timezone, instant)
    return _from_start(entitlement, period)


def following_period(entitlement: Entitlement, period: Period) -> Period | None:
    """The one after `period`; None when there is none in the entitlement's time."""
    cadence = _cadence(entitlement)
    if cadence.unit == "never" or (entitlement.ends_at is not None and entitlement.ends_at <= period.end):
        return None
    return next_period(entitlement.anchor_at or counts_from(entitlement), cadence, entitlement.timezone, period)


def counts_from(entitlement: Entitlement) -> datetime:
    """A change of plan or a pause begins an entitlement, and no new count."""
    return entitlement.counts_from or entitlement.starts_at


def counter_key(entitlement: Entitlement, period: Period) -> CounterKey:
    return CounterKey(
        meter_id=entitlement.meter_id,
        generation=entitlement.generation,
        start_s=int(period.start.timestamp()),
        end_s=int(period.end.timestamp()),
    )


def wanted(contract: CustomerContract, now: datetime) -> tuple[dict[CounterKey, Aggregation], datetime]:
    """The counters that a contract selects, and until when it selects these and no others.

    Each metered entitlement has the counter of the current period and, ahead of time, that of the next: so no period
    begins with a read. An entitlement that begins later has its first ones already.
    """
    keys: dict[CounterKey, Aggregation] = {}
    until = FOREVER
    for held in contract.entitlements:
        at = max(now, held.starts_at)
        if held.kind != "metered" or (held.ends_at is not None and held.ends_at <= at):
            continue
        period = counted_period(held, at)
        following = following_period(held, period)
        for one in (period, following):
            if one is not None:
                keys[counter_key(held, one)] = held.aggregation  # type: ignore[assignment]  # a text of the catalog's
        until = min(until, period.end)
    return keys, until


def applied(
    counter: Counter, partition: int, last_offset: int, changes: Mapping[MeterGeneration, Sequence[UsageChange]]
) -> Counter:
    """`counter` after a block of a source partition: unchanged by what its guard covers (protocol 22) or another's."""
    key = counter.key
    own = changes.get((key.meter_id, key.generation))
    if own is None or last_offset <= counter.guard.get(partition, -1):
        return counter
    fitting = [change for change in own if key.start_s <= change.second < key.end_s]
    if not fitting:
        return counter
    if counter.aggregation in REREAD:
        # Its guard waits for the read: the value does not hold this block yet.
        return counter if counter.due else replace(counter, due=True)
    matches, values, total = counter.matches, counter.values, counter.total
    lowest, highest, latest = counter.lowest, counter.highest, counter.latest
    for change in fitting:
        matches += change.matches
        values += change.values
        total = EXACT.add(total, change.total)
        lowest = least(lowest, change.lowest)
        highest = greatest(highest, change.highest)
        latest = later(latest, change.latest)
    return replace(
        counter,
        guard={**counter.guard, partition: last_offset},
        matches=matches,
        values=values,
        total=total,
        lowest=lowest,
        highest=highest,
        latest=latest,
    )


def as_read(key: CounterKey, aggregation: Aggregation, state: UsageState, guard: Mapping[int, int]) -> Counter:
    """The counter as the usage has it, up to the positions of `guard`."""
    return Counter(
        key=key,
        aggregation=aggregation,
        guard=dict(guard),
        matches=state.matches,
        values=state.values,
        total=state.total,
        lowest=state.lowest,
        highest=state.highest,
        latest=state.latest,
        uniques=state.uniques,
    )


def value_of(counter: Counter) -> Decimal | None:
    """What the counter's aggregation says. Of nothing: `count`, `unique_count` and `sum` are 0, the others have none."""
    match counter.aggregation:
        case "count":
            return Decimal(counter.matches)
        case "unique_count":
            return Decimal(counter.uniques)
        case "sum":
            return counter.total
        case "avg":
            return average(counter.total, counter.values)
        case "latest":
            return counter.latest.value if counter.latest else None
        case _:
            return counter.lowest if counter.aggregation == "min" else counter.highest


def start_of(key: CounterKey) -> datetime:
    return datetime.fromtimestamp(key.start_s, UTC)


def end_of(key: CounterKey) -> datetime:
    return datetime.fromtimestamp(key.end_s, UTC)


def _cadence(entitlement: Entitlement) -> Cadence:
    unit = entitlement.usage_period
    if unit == "billing_period":
        raise ValueError(f"the contract of {entitlement.subscription_id} does not say how long a billing period is")
    return Cadence(unit=unit)


def _from_start(entitlement: Entitlement, period: Period) -> Period:
    since = counts_from(entitlement)
    return period if period.start >= since else replace(period, start=since.astimezone(UTC))
