"""A customer and the subscription that it holds, as closings read them: tests say what is different of theirs."""

from datetime import UTC, datetime

from schemas.closing import ClosableSubscription
from schemas.customers import Customer
from schemas.scope import Scope

MAY, JUNE, JULY = (datetime(2026, month, 1, tzinfo=UTC) for month in (5, 6, 7))
HELD = ClosableSubscription(
    id="sub_1",
    scope=Scope("ten", "live"),
    customer_id="cus_1",
    plan_version_id="plv_1",
    billing="anniversary",
    cadence="month",
    timezone="UTC",
    start_at=MAY,
    end_at=None,
    closed_to=JUNE,
    next_close_at=JULY,
)
CUSTOMER = Customer(
    id="cus_1",
    external_id="acme",
    name="Acme",
    aliases=(),
    timezone="UTC",
    currency=None,
    attributes={},
    revision=1,
    created_at=MAY,
    archived_at=None,
)
