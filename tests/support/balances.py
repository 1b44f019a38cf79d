"""What tests of the balances share: customers with limits, and their balances as the API sees them against counting by hand."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import msgspec

from api.entitlements_view import EntitlementsFold
from domain.errors import NotFound
from domain.identity import customer_partition
from schemas.contracts import CustomerContract, Entitlement
from schemas.events import UsageEvent
from schemas.meters import Meter
from schemas.topics import CONTRACTS_CHANGED, ENTITLEMENTS_STATE
from stores.kafka import Record as ViewRecord
from tests.support.ingest import ENVIRONMENT, NOW, PARTITIONS, TENANT, Stack
from tests.support.pipeline import produce, read_topic

METERS = [
    Meter(id="met_calls", key="calls", event_types=("call",), aggregation="count"),
    Meter(id="met_bytes", key="bytes", event_types=("call",), aggregation="sum", value_property="bytes"),
    Meter(id="met_users", key="users", event_types=("call",), aggregation="unique_count", value_property="user"),
]
BEGAN = (NOW - timedelta(days=20)).replace(microsecond=0)
FEATURES = {"met_calls": "count", "met_bytes": "sum", "met_users": "unique_count"}
LIMIT = Decimal(300)


def contract(customer: int, version: int, references: Sequence[str] = ()) -> CustomerContract:
    return CustomerContract(
        version=version,
        tenant=TENANT,
        environment=ENVIRONMENT,
        customer_id=f"cus_{customer}",
        references=[f"cus_{customer}", f"c{customer}", *references],
        entitlements=[
            Entitlement(
                feature_id=f"fea_{meter}",
                feature_key=meter,
                kind="metered",
                subscription_id=f"sub_{customer}",
                starts_at=BEGAN,
                meter_id=meter,
                aggregation=aggregation,
                limit=LIMIT,
                usage_period="never" if meter == "met_calls" else "month",
                anchor_at=BEGAN,
            )
            for meter, aggregation in FEATURES.items()
        ],
    )


async def contracts_sent(stack: Stack, contracts: Sequence[CustomerContract]) -> None:
    for one in contracts:
        name = f"{one.tenant}/{one.environment}/{one.customer_id}"
        partition = customer_partition(one.tenant, one.environment, one.customer_id, PARTITIONS)
        await produce(
            stack.bootstrap, CONTRACTS_CHANGED, [(partition, msgspec.json.encode(one), [])], key=name.encode()
        )


async def fold_of(stack: Stack) -> EntitlementsFold:
    fold = EntitlementsFold()
    for one in await read_topic(stack.bootstrap, ENTITLEMENTS_STATE, PARTITIONS):
        fold.apply(
            ViewRecord(
                partition=one.partition, offset=one.offset, timestamp_ms=one.timestamp, key=one.key, value=one.value
            )
        )
    return fold


def expected(events: Sequence[UsageEvent], customers: Sequence[int]) -> dict[tuple[str, str], Decimal]:
    found: dict[tuple[str, str], Decimal] = {}
    for customer in customers:
        own = [one for one in events if one.customer == f"c{customer}" and (one.time or NOW) >= BEGAN]
        values = [one.properties for one in own]
        found[f"c{customer}", "met_calls"] = Decimal(len(own))
        found[f"c{customer}", "met_bytes"] = sum((value["bytes"] for value in values), Decimal(0))
        found[f"c{customer}", "met_users"] = Decimal(len({value["user"] for value in values}))
    return found


async def agrees(stack: Stack, events: Sequence[UsageEvent], customers: Sequence[int]) -> bool:
    """Whether each check says what counting by hand says."""
    fold = await fold_of(stack)
    for (customer, feature), usage in expected(events, customers).items():
        try:
            held = fold.find(TENANT, ENVIRONMENT, customer)
        except NotFound as missing:
            raise AssertionError(customer) from missing
        as_of = fold.as_of(held)
        answer = held.standings.check(feature, Decimal(0), now=datetime.now(UTC), as_of=as_of, stale=False)  # noqa: TID251
        assert (customer, feature, answer.usage) == (customer, feature, usage)
        assert answer.allowed == (usage < LIMIT)
    return True
