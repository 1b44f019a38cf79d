"""Customers with entitlements as the balances worker tells them: records of `entitlements.state` without a worker."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from decimal import Decimal

import msgspec

from api.entitlements_view import EntitlementsFold
from bench.events import ENVIRONMENT, TENANT
from schemas.contracts import CounterState, CustomerContract, Entitlement, EntitlementsState
from stores.kafka import Record

# Greater than that of any worker: no record of one takes its place.
VERSION = (1 << 40, 1)


def fold_of(names: Sequence[str], features: Sequence[str], now: datetime) -> EntitlementsFold:
    """The customers `names`, whose usage of every feature in this month is known."""
    fold = EntitlementsFold()
    for name in names:
        key, value = state_record(name, features, now)
        fold.apply(Record(partition=0, offset=0, timestamp_ms=0, key=key, value=value))
    return fold


def state_record(name: str, features: Sequence[str], now: datetime) -> tuple[bytes, bytes]:
    """Key and value of the record of a customer."""
    state = state_of(name, features, now)
    return f"{TENANT}/{ENVIRONMENT}/{state.contract.customer_id}".encode(), msgspec.json.encode(state)


def state_of(name: str, features: Sequence[str], now: datetime) -> EntitlementsState:
    """A customer with metered features, each with a counter of its own of the month of `now`."""
    start = now.replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    held = [
        Entitlement(
            feature_id=f"fea_{place}",
            feature_key=feature,
            kind="metered",
            subscription_id=f"sub_{name}",
            starts_at=start,
            anchor_at=start,
            meter_id=f"met_{place}",
            limit=Decimal(1_000_000),
        )
        for place, feature in enumerate(features)
    ]
    return EntitlementsState(
        version=VERSION,
        as_of_ms=int(now.timestamp() * 1000),
        contract=CustomerContract(
            version=1,
            tenant=TENANT,
            environment=ENVIRONMENT,
            customer_id=f"cus_{name}",
            references=[f"cus_{name}", name],
            entitlements=held,
        ),
        counters=[
            CounterState(
                meter_id=one.meter_id,
                generation=1,
                aggregation="sum",
                start_at=start,
                end_at=month_after(start),
                value=Decimal(place * 1000),
            )
            for place, one in enumerate(held)
        ],
    )


def month_after(start: datetime) -> datetime:
    return (start + timedelta(days=32)).replace(day=1)
