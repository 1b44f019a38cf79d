"""Adapters of `time.json`: periods, boundaries and shares of periods."""

from datetime import datetime, timedelta
from decimal import Decimal
from fractions import Fraction

from domain.money import round_money
from domain.periods import add_months, billing_period_at, boundary, calendar_anchor, period_at, periods_between
from domain.proration import share
from schemas.periods import Cadence, CadenceUnit, Period
from tests.vectors.cases import Area, Case, dec, instant

SECOND = timedelta(seconds=1)
FP_UNITS: dict[str, CadenceUnit] = {
    "DAILY": "day",
    "WEEKLY": "week",
    "MONTHLY": "month",
    "QUARTERLY": "quarter",
    "HALF_YEARLY": "half_year",
    "ANNUAL": "year",
}
ISO_CADENCES = {
    "P1D": Cadence(unit="day"),
    "P1W": Cadence(unit="week"),
    "P1M": Cadence(unit="month"),
    "P6M": Cadence(unit="month", count=6),
    "P1Y": Cadence(unit="year"),
}


def fp_next_billing_date(case: Case) -> None:
    inputs = case["inputs"]
    cadence = Cadence(unit=FP_UNITS[inputs["period"]], count=inputs["unit"])
    anchor, start = instant(inputs["billing_anchor"]), instant(inputs["current_period_start"])
    end = period_at(anchor, cadence, inputs["timezone"], start).end
    _, ours = FP_NEXT_DIFFERS.get(case["id"], ("", None))
    assert end == instant(ours or case["expected"]["next"])


FP_NEXT_DIFFERS = {
    "time-019": ("every boundary counts from the original anchor, 14 January", "2024-05-14T00:00:00Z"),
    "time-021": ("a later anchor ends the first period in every cadence alike", "2024-06-15T12:00:00Z"),
}


def fp_next_differs(case: Case) -> str | None:
    return FP_NEXT_DIFFERS[case["id"]][0] if case["id"] in FP_NEXT_DIFFERS else None


def fp_billing_periods(case: Case) -> None:
    inputs, expected = case["inputs"], case["expected"]
    cadence = Cadence(unit=FP_UNITS[inputs["period"]], count=inputs["unit"])
    start, end, anchor = instant(inputs["start"]), instant(inputs["end"]), instant(inputs["anchor"])
    ends = [period.end for period in periods_between(anchor, cadence, inputs["timezone"], start, end)]
    assert len(ends) == expected["period_count"]
    wanted = [instant(text) for text in expected.get("period_ends", expected.get("first_two_period_ends"))]
    assert ends[: len(wanted)] == wanted


def fp_calendar_anchor(case: Case) -> None:
    start = instant(case["inputs"]["start"])
    anchor = calendar_anchor(start, Cadence(unit=FP_UNITS[case["inputs"]["period"]]), "UTC")
    if fp_calendar_differs(case):
        assert anchor == start
    else:
        assert anchor == instant(case["expected"]["anchor"])


def fp_calendar_differs(case: Case) -> str | None:
    if case["id"] == "time-030":
        return "a start exactly on the boundary opens a full period there"
    return None


def fp_usage_reset(case: Case) -> None:
    inputs = case["inputs"]
    cadence = Cadence(unit=FP_UNITS[inputs["reset_period"]])
    end = period_at(instant(inputs["billing_anchor"]), cadence, inputs["timezone"], instant(inputs["now"])).end
    if "subscription_end" in inputs:
        end = min(end, instant(inputs["subscription_end"]))
    assert end == instant(case["expected"]["next_reset"])


def fp_month_buckets(case: Case) -> None:
    inputs = case["inputs"]
    anchor, start, end = (instant(inputs[name]) for name in ("anchor", "start", "end"))
    periods = periods_between(anchor, Cadence(unit="month"), "UTC", start, end)
    assert [period.start for period in periods] == [instant(text) for text in case["expected"]["bucket_starts"]]


def fp_proration_line_item(case: Case) -> None:
    """The period's end is exclusive here as there: 23:59:59 leaves its last second out of the period."""
    inputs = case["inputs"]
    start, end, at = (instant(inputs[name]) for name in ("period_start", "period_end", "effective_date"))
    amount = Fraction(dec(inputs["price"]) * dec(inputs["quantity"]))
    assert round_money(amount * share(start, end, at, end), "USD") == dec(case["expected"]["charge"])


def fp_line_item_later(case: Case) -> str | None:
    return "credits for removed items are not built yet" if case["inputs"]["action"] == "remove_item" else None


def om_recurrence(case: Case) -> None:
    inputs, expected = case["inputs"], case["expected"]
    cadence, anchor, at = ISO_CADENCES[inputs["interval"]], instant(inputs["anchor"]), instant(inputs["time"])
    period = period_at(anchor, cadence, "UTC", at)
    if inputs["op"] == "period_at":
        assert (period.start, period.end) == (instant(expected["from"]), instant(expected["to"]))
        return
    on_boundary = period.start == at
    if inputs["op"] == "prev_before":
        before = boundary(anchor, cadence, "UTC", period.index - 1)
        found = before if on_boundary and inputs["boundary"] == "exclusive" else period.start
    else:
        found = at if on_boundary and inputs["boundary"] == "inclusive" else period.end
    assert found == instant(expected["time"])


def om_iso_duration_add(case: Case) -> None:
    start, duration = instant(case["inputs"]["start"]), case["inputs"]["duration"]
    if duration == "P1Y2M10DT5H30M45S":
        ours = add_months(start, 14) + timedelta(days=10, hours=5, minutes=30, seconds=45)
    else:
        ours = boundary(start, ISO_CADENCES[duration], "UTC", 1)
    assert ours == instant(case["expected"]["result"])


def om_reset_timeline(case: Case) -> None:
    (recurrence,) = case["inputs"]["recurrences"]
    effective, anchor = instant(recurrence["effective_at"]), instant(recurrence["anchor"])
    first, last = (instant(case["inputs"]["query"][name]) for name in ("from", "to"))
    periods = periods_between(anchor, ISO_CADENCES[recurrence["interval"]], "UTC", effective, last + SECOND)
    resets = [effective, *(period.start for period in periods if period.start > effective)]
    resets = [at for at in resets if first <= at <= last]
    expected = case["expected"]
    if "resets" in expected:
        assert resets == [instant(text) for text in expected["resets"]]
    else:
        assert (len(resets), resets[0]) == (expected["count"], instant(expected["first"]))


def om_dst_day_windows(case: Case) -> None:
    inputs = case["inputs"]
    start, end = instant(inputs["from"]), instant(inputs["to"])
    events = [(instant(event["time"]), dec(event["value"])) for event in inputs["events"]]
    rows = [
        (sum((value for at, value in events if period.start <= at < period.end), Decimal(0)), period.start, period.end)
        for period in periods_between(start, Cadence(unit="day"), inputs["timezone"], start, end)
    ]
    assert rows == [
        (dec(row["value"]), instant(row["window_start"]), instant(row["window_end"]))
        for row in case["expected"]["rows"]
    ]


def local_midnight(at: datetime, zone: str) -> datetime:
    day = Cadence(unit="day")
    following = calendar_anchor(at, day, zone)
    return at if following == at else boundary(following, day, zone, -1)


def lago_monthly_dates(case: Case) -> None:
    """Periods end inclusively at 23:59:59 there: a second is added to compare with a half-open end."""
    inputs, zone, month = case["inputs"], case["inputs"]["timezone"], Cadence(unit="month")
    start, at = local_midnight(instant(inputs["subscription_at"]), zone), instant(inputs["billing_at"])
    begun = local_midnight(instant(inputs["started_at"]), zone)

    def holding(moment: datetime) -> Period:
        return billing_period_at(start, inputs["billing_time"], month, zone, moment)

    current = holding(at)
    # In arrears, a billing date bills the period that has ended by then; in advance, the one it lies in.
    billed = current if inputs["pay_in_advance"] else holding(current.start - SECOND) if current.index > 0 else current
    match inputs["method"]:
        case "from_datetime":
            ours = max(billed.start, begun)
        case "to_datetime" if inputs["terminated_at"] is not None:
            ours = min(current.end - SECOND, instant(inputs["terminated_at"]))
        case "to_datetime":
            ours = billed.end - SECOND
        case "next_end_of_period":
            ours = current.end - SECOND
        case _:
            ours = current.start if inputs["current_period"] else billed.start
    assert ours == instant(case["expected"]["datetime"])


def lago_subscription_fee(case: Case) -> None:
    inputs = case["inputs"]
    first, last = instant(inputs["from_datetime"]), instant(inputs["to_datetime"]) + SECOND
    unit: CadenceUnit = "week" if inputs["interval"] == "weekly" else "month"
    opened = calendar_anchor(last, Cadence(unit=unit), "UTC")
    whole_start = boundary(opened, Cadence(unit=unit), "UTC", -1)
    exact = Fraction(dec(inputs["plan_amount_cents"])) * share(whole_start, opened, first, last)
    assert round_money(exact, "JPY") == dec(case["expected"]["amount_cents"])


def lago_fee_later(case: Case) -> str | None:
    return "trials are not built yet" if case["inputs"]["trial_period_days"] else None


AREAS = {
    "fp_next_billing_date": Area(fp_next_billing_date, differs=fp_next_differs),
    "fp_billing_periods": Area(fp_billing_periods),
    "fp_calendar_anchor": Area(fp_calendar_anchor, differs=fp_calendar_differs),
    "fp_usage_reset": Area(fp_usage_reset),
    "fp_month_buckets": Area(fp_month_buckets),
    "fp_proration_line_item": Area(fp_proration_line_item, fp_line_item_later),
    "om_recurrence": Area(om_recurrence),
    "om_iso_duration_add": Area(om_iso_duration_add),
    "om_reset_timeline": Area(om_reset_timeline),
    "om_dst_day_windows": Area(om_dst_day_windows),
    "lago_monthly_dates": Area(lago_monthly_dates),
    "lago_subscription_fee": Area(lago_subscription_fee, lago_fee_later),
}
LATER = {
    "fp_proration_day_based": "proration by local days is not built yet",
    "fp_day_count": "proration by local days is not built yet",
    "fp_proration_credit_cap": "credits for unused time are not built yet",
    "fp_proration_credit_grant": "grants of credits are not built yet",
    "fp_subscription_period_rollover": "the whole life of a subscription is not built yet",
    "om_usage_period_at": "changes of an entitlement's recurrence are not built yet",
}
