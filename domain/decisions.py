"""Checks against the balances of a customer, as they were last told: no store is asked."""

from collections.abc import Sequence
from datetime import UTC, datetime
from decimal import Decimal
from typing import NamedTuple

from msgspec import Struct

from domain import entitlements
from domain.counters import counted_period, counter_key
from domain.money import ZERO
from schemas.balances import CounterKey
from schemas.contracts import Entitlement, EntitlementsState
from schemas.entitlements import CheckAnswer
from schemas.periods import FOREVER


class Standing(Struct, frozen=True, kw_only=True):
    """One entitlement as it stands: `usage` None is not known. Holds until `until`."""

    entitlement: Entitlement
    usage: Decimal | None
    began_at: datetime
    resets_at: datetime | None
    until: datetime


class _Known(NamedTuple):
    """Of a feature what holds in `[since, until)`."""

    since: datetime
    until: datetime
    standings: list[Standing]


class CustomerStandings:
    """What a state record says, by feature, worked out when it is first asked for.

    Not thread-safe, and replaced as a whole with the next record.
    """

    def __init__(self, state: EntitlementsState) -> None:
        self.state = state
        self._held: dict[str, list[Entitlement]] = {}
        self._by_feature: dict[str, _Known] = {}
        self._usage: dict[CounterKey, Decimal | None] = {
            CounterKey(
                meter_id=one.meter_id,
                generation=one.generation,
                start_s=int(one.start_at.timestamp()),
                end_s=int(one.end_at.timestamp()),
            ): one.value
            for one in state.counters
        }
        for held in state.contract.entitlements:
            for name in {held.feature_id, held.feature_key}:
                self._held.setdefault(name, []).append(held)

    @property
    def features(self) -> list[str]:
        """Keys of all features that are granted, in order."""
        return sorted({held.feature_key for held in self.state.contract.entitlements})

    def check(
        self, feature: str, quantity: Decimal, *, now: datetime, as_of: datetime | None, stale: bool
    ) -> CheckAnswer:
        """The answer for a feature by id or key. `as_of` is that of the customer's partition. Raises Invalid.

        A counter that is not there for a period that began after `as_of` has no usage; any other is unknown.
        """
        answers = [
            entitlements.check(
                one.entitlement,
                usage=_usage(one, as_of),
                quantity=quantity,
                resets_at=one.resets_at,
                as_of=as_of,
                stale=stale,
            )
            for one in self.standings(feature, now)
        ]
        if not answers:
            return entitlements.check(None, quantity=quantity, as_of=as_of, stale=stale)
        return entitlements.first_allowed(answers)

    def standings(self, feature: str, now: datetime) -> Sequence[Standing]:
        """What is in force at `now`."""
        known = self._by_feature.get(feature)
        if known is not None and known.since <= now < known.until:
            return known.standings
        held = self._held.get(feature, [])
        # The next instant at which another entitlement begins or ends.
        edges = [at for one in held for at in (one.starts_at, one.ends_at) if at is not None and at > now]
        edge = min(edges, default=FOREVER)
        found = [self._standing(one, now, edge) for one in entitlements.combined(held, now)]
        self._by_feature[feature] = _Known(now, min((one.until for one in found), default=now), found)
        return found

    def _standing(self, held: Entitlement, now: datetime, edge: datetime) -> Standing:
        if held.kind != "metered":
            return Standing(entitlement=held, usage=None, began_at=held.starts_at, resets_at=None, until=edge)
        period = counted_period(held, now)
        key = counter_key(held, period)
        usage = self._usage.get(key)
        if usage is None and key in self._usage:
            usage = ZERO  # an aggregate of nothing
        return Standing(
            entitlement=held,
            usage=usage,
            began_at=period.start,
            resets_at=None if period.end >= FOREVER else period.end.astimezone(UTC),
            until=min(period.end, edge),
        )


def _usage(standing: Standing, as_of: datetime | None) -> Decimal | None:
    if standing.usage is None and as_of is not None and standing.began_at > as_of:
        return ZERO
    return standing.usage
