"""Adapters of `time.json`: periods, boundaries and shares of periods."""

from datetime import datetime, timedelta
from decimal import Decimal
from fractions import Fraction

from domain.money import round_half_away, round_money
from domain.periods import add_months, billing_period_at, boundary, calendar_anchor, period_at, periods_between
from domain.proration import capped_credit, day_count, prorated_quantity, rest_of, share, unused_credit
from domain.recurrences import boundary_after, boundary_before, resets_between, usage_period_at
from domain.subscriptions import period_to_close, status_at
from schemas.periods import Cadence, CadenceUnit, Period, Recurrence
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
    inputs, expected = case["inputs"], case["expected"]
    start, end, at = (instant(inputs[name]) for name in ("period_start", "period_end", "effective_date"))
    amount = dec(inputs["price"]) * dec(inputs["quantity"])
    if inputs["action"] == "remove_item":
        invoiced = inputs.get("amounts_already_invoiced_for_line_in_period")
        paid = None if invoiced is None else sum(map(dec, invoiced), Decimal(0))
        assert unused_credit(amount, start, end, at, "USD", paid=paid) == dec(expected["credit"])
    else:
        assert rest_of(amount, start, end, at, "USD") == dec(expected["charge"])


def fp_proration_day_based(case: Case) -> None:
    """The period is written with its last day, 31 March, which counts there. Half-open it has 30 days, 16 of them from
    the 15th on. Ended at 1 April, as we would write the same period, it comes out as there.
    """
    inputs, expected = case["inputs"], case["expected"]
    start, end, at = (instant(inputs[name]) for name in ("period_start", "period_end", "proration_date"))
    old = dec(inputs["old_unit_price"]) * dec(inputs["old_quantity"])
    new = dec(inputs["new_unit_price"]) * dec(inputs["new_quantity"])
    paid = dec(inputs["original_amount_paid"]) if "original_amount_paid" in inputs else None

    def changed(ends: datetime) -> tuple[Fraction, Decimal, Decimal]:
        zone, currency = inputs["timezone"], inputs["currency"].upper()
        credit = unused_credit(old, start, ends, at, currency, paid=paid, basis="days", zone=zone)
        charge = rest_of(new, start, ends, at, currency, basis="days", zone=zone)
        return share(start, ends, at, ends, basis="days", zone=zone), -credit, charge

    as_written = {"time-001": ("-5.33", "10.67"), "time-002": ("-26.67", "53.33")}[case["id"]]
    assert changed(end) == (Fraction(16, 30), *map(Decimal, as_written))
    part, credit, charge = changed(end + timedelta(days=1))
    assert (credit, charge, charge + credit) == tuple(dec(expected[name]) for name in ("credit", "charge", "net"))
    assert part == Fraction(expected.get("coefficient", "17/31"))


def fp_day_count(case: Case) -> None:
    inputs = case["inputs"]
    days = day_count(instant(inputs["start"]), instant(inputs["end"]), inputs["timezone"])
    assert days == case["expected"]["days"]


def fp_proration_credit_cap(case: Case) -> None:
    names = ("potential_credit", "original_amount_paid", "previous_credits")
    credit, paid, credited = (dec(case["inputs"][name]) for name in names)
    assert capped_credit(credit, paid, credited) == dec(case["expected"]["credit"])


def fp_proration_credit_grant(case: Case) -> None:
    """Ours keeps 12 digits after the point, 8 are kept there."""
    inputs, expected = case["inputs"], case["expected"]
    start, end, at = (instant(inputs[name]) for name in ("period_start", "period_end", "proration_date"))
    part = share(start, end, at, end)
    granted = prorated_quantity(dec(inputs["credits"]), part)
    assert round_half_away(granted, 8) == dec(expected["credits"])
    if "coefficient" in expected:
        assert round_half_away(part, 16) == dec(expected["coefficient"])


def fp_subscription_period_rollover(case: Case) -> None:
    """`cancelled` there is a subscription that is over: `ended` here, where `cancelled` still runs up to its end."""
    inputs, expected = case["inputs"], case["expected"]
    start, now, quarter = instant(inputs["start"]), instant(inputs["now"]), Cadence(unit="quarter")
    end = instant(inputs["end_date"] if "end_date" in inputs else inputs["cancel_at"])
    over = status_at(now, start, end) == "ended"
    assert over is (expected["status"] == "cancelled")

    def following(closed_to: datetime) -> Period | None:
        return period_to_close(
            start_at=start, end_at=end, billing="anniversary", cadence=quarter, zone="UTC", closed_to=closed_to
        )

    opened, closes = map(instant, inputs["current_period"])
    period = following(opened)
    assert period is not None
    assert (period.start, period.end) == (opened, closes)
    while period is not None and period.end <= now:
        closes, period = period.end, following(period.end)
    assert (period is None) is over
    if "cancelled_at" in expected:
        assert closes == instant(expected["cancelled_at"])


def om_recurrence(case: Case) -> None:
    inputs, expected = case["inputs"], case["expected"]
    cadence, anchor, at = ISO_CADENCES[inputs["interval"]], instant(inputs["anchor"]), instant(inputs["time"])
    inclusive = inputs["boundary"] == "inclusive"
    match inputs["op"]:
        case "period_at":
            period = period_at(anchor, cadence, "UTC", at)
            assert (period.start, period.end) == (instant(expected["from"]), instant(expected["to"]))
        case "prev_before":
            assert boundary_before(anchor, cadence, "UTC", at, inclusive=inclusive) == instant(expected["time"])
        case _:
            assert boundary_after(anchor, cadence, "UTC", at, inclusive=inclusive) == instant(expected["time"])


def om_iso_duration_add(case: Case) -> None:
    start, duration = instant(case["inputs"]["start"]), case["inputs"]["duration"]
    if duration == "P1Y2M10DT5H30M45S":
        ours = add_months(start, 14) + timedelta(days=10, hours=5, minutes=30, seconds=45)
    else:
        ours = boundary(start, ISO_CADENCES[duration], "UTC", 1)
    assert ours == instant(case["expected"]["result"])


def recurrences(case: Case) -> list[Recurrence]:
    return [
        Recurrence(
            effective_at=instant(given["effective_at"]),
            anchor=instant(given["anchor"]),
            cadence=ISO_CADENCES[given["interval"]],
            zone=given.get("anchor_timezone", "UTC"),
        )
        for given in case["inputs"]["recurrences"]
    ]


def om_reset_timeline(case: Case) -> None:
    """Both ends of the query are inclusive there."""
    first, last = (instant(case["inputs"]["query"][name]) for name in ("from", "to"))
    resets = resets_between(recurrences(case), first, last + SECOND)
    expected = case["expected"]
    if "resets" in expected:
        assert resets == [instant(text) for text in expected["resets"]]
    else:
        assert (len(resets), resets[0]) == (expected["count"], instant(expected["first"]))


def om_usage_period_at(case: Case) -> None:
    period = usage_period_at(recurrences(case), instant(case["inputs"]["at"]))
    assert (period.start, period.end) == (instant(case["expected"]["from"]), instant(case["expected"]["to"]))


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
    """What is paid for begins after the trial, by local days."""
    inputs, expected = case["inputs"], case["expected"]
    first, last = instant(inputs["from_datetime"]), instant(inputs["to_datetime"]) + SECOND
    unit: CadenceUnit = "week" if inputs["interval"] == "weekly" else "month"
    opened = calendar_anchor(last, Cadence(unit=unit), "UTC")
    whole_start = boundary(opened, Cadence(unit=unit), "UTC", -1)
    paid_from = max(first, instant(inputs["subscription_started_at"]) + timedelta(days=inputs["trial_period_days"]))
    exact = Fraction(dec(inputs["plan_amount_cents"])) * share(whole_start, opened, paid_from, last, basis="days")
    assert round_money(exact, "JPY") == dec(expected["amount_cents"])
    assert round_half_away(exact, 12) == round_half_away(dec(expected["precise_amount_cents"]), 12)


AREAS = {
    "fp_next_billing_date": Area(fp_next_billing_date, differs=fp_next_differs),
    "fp_billing_periods": Area(fp_billing_periods),
    "fp_calendar_anchor": Area(fp_calendar_anchor, differs=fp_calendar_differs),
    "fp_usage_reset": Area(fp_usage_reset),
    "fp_month_buckets": Area(fp_month_buckets),
    "fp_proration_line_item": Area(fp_proration_line_item),
    "fp_proration_day_based": Area(
        fp_proration_day_based,
        differs=lambda _case: "a period is half-open: the day it is written to end on is not in it",
    ),
    "fp_day_count": Area(fp_day_count),
    "fp_proration_credit_cap": Area(fp_proration_credit_cap),
    "fp_proration_credit_grant": Area(fp_proration_credit_grant),
    "fp_subscription_period_rollover": Area(fp_subscription_period_rollover),
    "om_recurrence": Area(om_recurrence),
    "om_iso_duration_add": Area(om_iso_duration_add),
    "om_reset_timeline": Area(om_reset_timeline),
    "om_usage_period_at": Area(om_usage_period_at),
    "om_dst_day_windows": Area(om_dst_day_windows),
    "lago_monthly_dates": Area(lago_monthly_dates),
    "lago_subscription_fee": Area(lago_subscription_fee),
}
LATER: dict[str, str] = {}
