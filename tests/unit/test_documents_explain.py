from datetime import UTC, datetime
from decimal import Decimal
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from msgspec.structs import replace

from docs.invoices.sample import SOLD, ZONE, sample_invoice
from documents import explain_invoice
from domain.errors import Invalid
from schemas.explanations import InvoiceExplanation, LineUsage
from schemas.invoices import AdjustedUsage
from schemas.meters import Meter
from schemas.price_terms import Bucketing
from schemas.prices import PerUnitPrice, PlanPrice
from tests.support.invoice_documents import invoice, line

D = Decimal
METER = Meter(id="met_1", key="calls", event_types=("call.made",), aggregation="sum")
NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)


def used(*values: str, total: str | None) -> LineUsage:
    windows = tuple(
        (NOON.replace(hour=hour), NOON.replace(hour=hour + 1), D(value)) for hour, value in enumerate(values)
    )
    return LineUsage(generation=2, window="hour", windows=windows, total=None if total is None else D(total))


def explained(kept: Any, **changes: Any) -> InvoiceExplanation:
    fields: dict[str, Any] = {"zone": "UTC", "prices": {}, "meters": {}, "usage": {}}
    return explain_invoice(kept, **(fields | changes))


def test_steps_sum_to_lines_and_lines_to_the_invoice() -> None:
    kept, _ = sample_invoice()
    told = explained(kept, zone=ZONE, prices={price.id: price for price, _ in SOLD})
    assert sum(one.amount for one in told.lines) == told.subtotal == kept.subtotal
    for one in told.lines:
        assert one.steps[-1].sum == one.exact_amount
        assert one.exact_amount + one.rounding == one.amount


def test_a_line_and_its_steps_are_told_in_words() -> None:
    kept, _ = sample_invoice()
    calls = explained(kept, zone=ZONE, prices={price.id: price for price, _ in SOLD}).lines[2]
    assert calls.text == "API calls (1 – 31 Oct 2026, graduated tiers): 1,482,301 units come to EUR 500.58"
    assert [step.text for step in calls.steps[1:]] == [
        "Tier 2, per unit (over 100,000 to 1,000,000): 900,000 × 0.0004 = 360.00",
        "Tier 3, per unit (over 1,000,000 to 1,482,301): 482,301 × 0.00025 = 120.57525",
        "Tier 3, flat price (over 1,000,000 to 1,482,301): 1 × 20.00 = 20.00",
    ]
    assert [step.sum for step in calls.steps] == [D(0), D(360), D("480.57525"), D("500.57525")]


def test_an_adjustment_is_the_same_where_its_period_holds_what_it_corrects_to() -> None:
    adjusts = AdjustedUsage(
        invoice_id="inv_0", sequence=1, cut=3, generation=1, quantity_before=D(5), quantity_after=D(7)
    )
    late = line(PerUnitPrice(unit_amount=D(2)), "2", kind="adjustment", adjusts=adjusts)
    for total, same in (("7", True), ("2", False)):
        told = explained(invoice([late]), meters={"met_1": METER}, usage={"lin_1": used(total, total=total)})
        usage = told.lines[0].usage
        assert usage is not None
        assert usage.same is same


def test_a_line_of_usage_leads_to_its_windows_and_they_to_requests_for_their_events() -> None:
    kept = invoice([line(PerUnitPrice(unit_amount=D(2)), "7")])
    told = explained(kept, meters={"met_1": METER}, usage={"lin_1": used("3", "4.0", total="7")})
    usage = told.lines[0].usage
    assert usage is not None
    assert usage.same
    assert [str(window.value) for window in usage.windows] == ["3", "4"]
    assert (usage.generation, usage.window, usage.additive) == (2, "hour", True)
    path, question = urlsplit(usage.windows[1].events)[2:4]
    assert path == "/v1/invoices/inv_1/lines/lin_1/events"
    assert parse_qs(question) == {"from": ["2026-03-01T01:00:00Z"], "to": ["2026-03-01T02:00:00Z"]}
    whole = parse_qs(urlsplit(usage.events).query)
    assert whole == {"from": ["2026-03-01T00:00:00Z"], "to": ["2026-04-01T00:00:00Z"]}


def test_what_is_no_usage_is_told_without_units() -> None:
    kept = invoice([line(id="lin_1", kind="fee", meter_id=None), line(id="lin_2", kind="true_up")])
    said = [one.text for one in explained(kept).lines]
    assert said == ["Calls (1 – 31 Mar 2026): USD 10.00"] * 2


def test_usage_that_is_not_what_was_billed_is_told_so() -> None:
    kept = invoice([line(PerUnitPrice(unit_amount=D(2)), "7")])
    told = explained(kept, meters={"met_1": METER}, usage={"lin_1": used("3", "5", total="8")})
    assert told.lines[0].usage is not None
    assert told.lines[0].usage.same is False


def test_usage_without_a_value_was_billed_as_nothing() -> None:
    kept = invoice([line(PerUnitPrice(unit_amount=D(2)), "0")])
    told = explained(kept, meters={"met_1": METER}, usage={"lin_1": used(total=None)})
    assert told.lines[0].usage is not None
    assert told.lines[0].usage.same


def test_a_line_of_buckets_is_not_compared_with_an_aggregate_that_is_not_their_sum() -> None:
    price = PerUnitPrice(unit_amount=D(2), bucket=Bucketing(size="day"))
    sold = PlanPrice(id="pri_1", key="calls", currency="USD", price=price, meter_id="met_1")
    kept = invoice([line(PerUnitPrice(unit_amount=D(2)), "7")])
    seen = {}
    for aggregation in ("sum", "max"):
        meter = replace(METER, aggregation=aggregation)
        told = explained(kept, prices={"pri_1": sold}, meters={"met_1": meter}, usage={"lin_1": used("3", total="4")})
        assert told.lines[0].usage is not None
        seen[aggregation] = told.lines[0].usage.same
    assert seen == {"sum": False, "max": None}


def test_one_line_is_explained_by_itself() -> None:
    kept, _ = sample_invoice()
    told = explained(kept, line_id="lin_mails")
    assert [one.line_id for one in told.lines] == ["lin_mails"]
    assert told.subtotal == kept.subtotal


def test_a_fee_has_no_usage_to_lead_to() -> None:
    told = explained(invoice([line(kind="fee", meter_id=None)]), meters={"met_1": METER})
    assert told.lines[0].usage is None


def test_lines_that_do_not_sum_are_not_explained() -> None:
    with pytest.raises(Invalid) as refused:
        explained(replace(invoice([line()]), subtotal=D(11)))
    assert refused.value.code == "amounts_disagree"
