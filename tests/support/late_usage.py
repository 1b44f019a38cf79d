"""A subscription with one billed period, and what was billed of it: builders for tests of late usage."""

from datetime import UTC, datetime
from decimal import Decimal

from msgspec.structs import replace

from schemas.billing import Contracts
from schemas.invoices import Invoice
from schemas.late_usage import BilledUsage, ClosedSpan, LateMeter
from tests.support import held
from tests.support.closing import plan

APRIL, MAY, JUNE, JULY = (datetime(2026, month, 1, tzinfo=UTC) for month in (4, 5, 6, 7))
HELD = replace(held.HELD, start_at=APRIL)
CONTRACTS = Contracts(held={"sub_1": HELD}, plans={"plv_1": plan()}, customers={"cus_1": held.CUSTOMER}, meters={})
NAMES = ("cus_1", "acme")
SPAN = ClosedSpan(
    scope=HELD.scope,
    subscription_id="sub_1",
    meter_id="met_count",
    generation=2,
    start=APRIL,
    end=JUNE,
    cut=5,
    names=NAMES,
)
BILLED = BilledUsage(
    subscription_id="sub_1",
    invoice_id="inv_may",
    price_id="pri_calls",
    price_key="calls",
    description="Calls",
    meter_id="met_count",
    generation=2,
    period_start=MAY,
    period_end=JUNE,
    quantity=Decimal(3),
    cut=5,
    names=NAMES,
    adjusted=1,
)
PLACE = LateMeter("sub_1", MAY, JUNE, "met_count", 2)
INVOICE = Invoice(
    id="inv_june",
    customer_id="cus_1",
    subscription_id="sub_1",
    currency="EUR",
    state="paid",
    period_start=JUNE,
    period_end=JULY,
    cut=9,
    lines=(),
    subtotal=Decimal(0),
    total=Decimal(0),
    amount_due=Decimal(0),
)
