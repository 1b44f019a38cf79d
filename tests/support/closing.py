"""Subscriptions with usage, ready to be closed: builders for tests of closings."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import msgspec
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from domain.plan_versions import version_of
from domain.subscriptions.amend import amended
from domain.subscriptions.begin import begin_requests
from domain.subscriptions.holding import holding
from runtime.clock import SystemClock
from runtime.ids import Ids
from runtime.settings import ClosingSettings
from schemas.customers import Customer
from schemas.invoices import KeptInvoice
from schemas.ledger import Intent
from schemas.periods import BillingAnchor
from schemas.plans import Plan
from schemas.prices import FlatPrice, PerUnitPrice, PlanPrice, Price
from schemas.scope import Scope
from schemas.subscription_life import Sold
from schemas.subscriptions import SubscriptionSpec
from schemas.topics import USAGE_RAW
from stores.clickhouse.client import ClickhouseClient
from stores.postgres.customers import create_customer
from stores.postgres.engine import create_engine, transaction
from stores.postgres.invoices import list_invoices
from stores.postgres.ledger import Ledger
from stores.postgres.meters import create_meter
from stores.postgres.plans import create_plan
from stores.postgres.subscriptions import create_subscription
from tests.support.clickhouse import migrated_database
from tests.support.database import database
from tests.support.usage_events import ENVIRONMENT, METERS, TENANT, TOPIC, TestEvent, insert_events
from workflows.activities import ClosingActivities

SCOPE = Scope(TENANT, ENVIRONMENT)
NOW = datetime(2026, 7, 10, 12, tzinfo=UTC)
FEE, UNIT = Decimal(31), Decimal("0.25")


class FixedClock:
    def __init__(self, now: datetime) -> None:
        self.at = now

    def now(self) -> datetime:
        return self.at


class Books:
    """One tenant whose plan has a fee of 31.00, 0.25 a call and 1.00 a user, with everything that closes its periods."""

    def __init__(self, engine: AsyncEngine, clickhouse: ClickhouseClient) -> None:
        self.engine = engine
        self.clickhouse = clickhouse
        self.clock = FixedClock(NOW)
        self.ids = Ids(SystemClock())

    def activities(self, **settings: int) -> ClosingActivities:
        return ClosingActivities(
            engine=self.engine,
            clickhouse=self.clickhouse,
            clock=self.clock,
            ids=self.ids,
            settings=msgspec.structs.replace(ClosingSettings(cut_min_interval_s=0), **settings),
        )

    async def prepare(self, as_of: datetime) -> None:
        """Meters, the plan, and a log that was read up to `as_of`."""
        async with transaction(self.engine) as conn:
            topic = {"name": USAGE_RAW, "topic": TOPIC, "as_of": as_of}
            await conn.execute(
                text("INSERT INTO log_topics (name, topic_id, partitions) VALUES (:name, :topic, 2)"), topic
            )
            await conn.execute(
                text(
                    "INSERT INTO ledger_partitions (topic_id, partition, idle_as_of)"
                    " SELECT :topic, n, :as_of FROM generate_series(0, 1) AS n"
                ),
                topic,
            )
            await conn.execute(text("UPDATE usage_cut SET raised_at = :at"), {"at": NOW - timedelta(days=1)})
            for meter in METERS:
                await create_meter(conn, SCOPE, meter, NOW)
            await create_plan(conn, SCOPE, plan())

    async def subscribe(
        self,
        name: str,
        start_at: datetime,
        *,
        billing: BillingAnchor = "anniversary",
        zone: str = "UTC",
        to: Plan | None = None,
    ) -> str:
        """The id of the subscription of the new customer `name`, who has an alias `<name>-old` as well."""
        chosen = to or plan()
        customer = Customer(
            id=f"cus_{name}",
            external_id=name,
            name=name,
            aliases=(f"{name}-old",),
            timezone=zone,
            currency=None,
            attributes={},
            revision=1,
            created_at=NOW,
            archived_at=None,
        )
        spec = SubscriptionSpec(customer=name, plan=chosen.key, start_at=start_at, billing=billing)
        sold = Sold(plans={chosen.version_id: version_of(chosen)})
        now = self.clock.now()
        begun = amended((), begin_requests(spec, customer, chosen, now, made_by="test", key=name), sold, now)
        subscription_id = f"sub_{name}"
        async with transaction(self.engine) as conn:
            await create_customer(conn, SCOPE, customer)
            await create_subscription(
                conn, SCOPE, subscription_id, begun.life, holding(begun.life, sold, now), begun.records
            )
        return subscription_id

    async def count(self, events: Sequence[TestEvent]) -> None:
        """The rows of `events`, in blocks at the cuts that they name."""
        await insert_events(self.clickhouse, events, SystemClock().now() + timedelta(minutes=1))

    async def invoices(self, subscription_id: str | None = None) -> list[KeptInvoice]:
        """In the order of their numbers."""
        async with transaction(self.engine) as conn:
            found = await list_invoices(conn, SCOPE, limit=500, after=None, subscription_id=subscription_id)
        return sorted(found, key=lambda invoice: invoice.number)


def plan() -> Plan:
    def price(key: str, model: Price, meter_id: str | None = None) -> PlanPrice:
        return PlanPrice(id=f"pri_{key}", key=key, currency="EUR", price=model, meter_id=meter_id)

    return Plan(
        id="pla_1",
        key="standard",
        name="Standard",
        currency="EUR",
        version=1,
        version_id="plv_1",
        status="published",
        cadence="month",
        prices=(
            price("fee", FlatPrice(amount=FEE)),
            price("calls", PerUnitPrice(unit_amount=UNIT), "met_count"),
            price("users", PerUnitPrice(unit_amount=Decimal(1)), "met_unique_count"),
        ),
        entitlements=(),
        revision=1,
        created_at=NOW,
        archived_at=None,
    )


def call(number: int, customer: str, time: datetime, user: str, *, cut: int = 1) -> TestEvent:
    """One call in a block of its own at the position `number`."""
    return TestEvent(
        id=f"call-{number}",
        customer=customer,
        time=time,
        amount=None,
        user=user,
        region="eu",
        partition=0,
        offset=number,
        index=0,
        cut=cut,
    )


@asynccontextmanager
async def books(postgres_url: str, clickhouse_url: str, name: str, as_of: datetime = NOW) -> AsyncIterator[Books]:
    """On databases called `name`."""
    with database(postgres_url, name) as postgres:
        async with migrated_database(clickhouse_url, name) as clickhouse:
            engine = create_engine(postgres)
            try:
                made = Books(engine, clickhouse)
                await made.prepare(as_of)
                yield made
            finally:
                await engine.dispose()


def one_event(first_logged_at: datetime, last_logged_at: datetime) -> Intent:
    """The first block of the first partition."""
    return Intent(
        topic_id=TOPIC,
        partition=0,
        first_offset=0,
        last_offset=0,
        shard=0,
        version=1,
        evaluator=1,
        stored=1,
        duplicate=0,
        rejected=0,
        forwarded=0,
        counts=[],
        row_hash=b"",
        max_event_at=None,
        first_logged_at=first_logged_at,
        last_logged_at=last_logged_at,
    )


def ledger(made: Books) -> Ledger:
    return Ledger(made.engine)
