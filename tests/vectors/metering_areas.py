"""Adapters of `metering.json`: events to values."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any, cast

import msgspec
import pytest

from domain.errors import Invalid
from domain.events import decode_properties, encode_properties, parse_event
from domain.identity import event_identity
from domain.metering import MeterEvent, Placed, matches_of, measured, prorated_sum, prorated_unique_count, usage_of
from domain.meters import compile_meters
from domain.money import round_half_away
from domain.windows import cut_windows
from schemas.catalog import TenantLimits
from schemas.measures import Measure
from schemas.meters import Aggregation, Meter
from schemas.periods import ProrationBasis
from schemas.usage import UsageRow
from tests.vectors.cases import Area, Case, dec, instant

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MILLISECOND = timedelta(milliseconds=1)
SECOND = timedelta(seconds=1)

Sent = tuple[datetime, dict[str, Any]]


def meter(aggregation: str, path: str | None, dimensions: tuple[str, ...] = ()) -> Meter:
    return Meter(
        id="met_1",
        key="m",
        event_types=("t",),
        aggregation=cast("Aggregation", aggregation.lower()),
        value_property=path.removeprefix("$.") if path else None,
        dimensions=dimensions,
        value_required=True,
    )


def time_ms(at: datetime) -> int:
    return (at - EPOCH) // MILLISECOND


def found(subject: Meter, sent: list[Sent]) -> tuple[list[Placed], list[str]]:
    """The matches and the codes of the issues of events sent in this order."""
    events = [
        MeterEvent("t", time_ms(at), (0, 0, offset, 0), decode_properties(msgspec.json.encode(data)))
        for offset, (at, data) in enumerate(sent)
    ]
    matches, issues = matches_of(subject, events)
    return matches, [code for _, code in issues]


def om_meter_window_query(case: Case) -> None:
    """There, a range is widened to whole windows, and windows without events are left out."""
    inputs, query = case["inputs"], case["inputs"]["query"]
    subject, measure = meter(inputs["aggregation"], "$.value"), Measure(aggregation=inputs["aggregation"])
    matches, _ = found(subject, [(instant(one["time"]), {"value": one["value"]}) for one in inputs["events"]])
    start, end = instant(query["from"]), instant(query["to"])
    window = query["window_size"].lower() if "window_size" in query else None
    if window is not None:
        start, end = (at.replace(second=0) for at in (start, end + timedelta(seconds=59)))
        start = start.replace(minute=0) if window == "hour" else start
    rows = usage_of(subject, measure, matches, cut_windows(start, end, window, query.get("timezone", "UTC"))).rows
    assert [row for row in rows if row.value] == [
        UsageRow(
            window_start=instant(row["window_start"]), window_end=instant(row["window_end"]), value=dec(row["value"])
        )
        for row in case["expected"]["rows"]
    ]


def om_aggregation_nulls(case: Case) -> None:
    """16 digits after the point are an issue of the meter here, not a value: what is left is 123 and a null."""
    inputs = case["inputs"]
    at = instant("2026-01-01T00:00:00Z")
    subject = meter(inputs["aggregation"], inputs["value_property"])
    matches, codes = found(subject, [(at, event["data"]) for event in inputs["events"]])
    value = measured(matches, Measure(aggregation=subject.aggregation), time_ms(at), time_ms(at) + 1)
    if nulls_differ(case):
        assert (value, codes) == (Decimal(123), ["too_many_fraction_digits", "value_missing"])
    else:
        wanted = case["expected"]["value"]
        assert value == (None if wanted is None else Decimal(wanted))


def nulls_differ(case: Case) -> str | None:
    if case["inputs"]["events"] and case["inputs"]["aggregation"] in {"SUM", "AVG", "MIN", "MAX"}:
        return "a value with more than 12 digits after the point is an issue, not a value"
    return None


def om_event_parse(case: Case) -> None:
    """Bad JSON is refused with its event; data without the value is an issue of the meter, the event is stored."""
    definition, data, expected = case["inputs"]["meter"], case["inputs"]["data"], case["expected"]
    paths = {name: path.removeprefix("$.") for name, path in definition.get("group_by", {}).items()}
    subject = meter(definition["aggregation"], definition.get("value_property"), tuple(paths.values()))
    raw = f'{{"id": "1", "type": "t", "customer": "c", "properties": {data}}}'.encode()
    if "error" in expected:
        with pytest.raises(Invalid) as refused:
            parse_event(raw, 0, TenantLimits())
        assert refused.value.code == ("malformed_json" if data == "{" else "properties_not_an_object")
        assert compile_meters([subject]).evaluate("t", {}) == ([], [(0, "value_missing")])
        return
    properties = parse_event(raw, 0, TenantLimits()).properties
    assert decode_properties(encode_properties(properties)) == properties
    ((_, number, key, dimensions),), issues = compile_meters([subject]).evaluate("t", properties)
    assert not issues
    assert dict(zip(paths, dimensions, strict=True)) == expected["group_by"]
    if "value_string" in expected:
        assert key == expected["value_string"]
    else:
        assert (Decimal(1) if number is None else number) == dec(expected["value"])


def om_dedupe(case: Case) -> None:
    """Identity is source and id alone: never the time, never the type."""
    events = case["inputs"]["events"]
    sent = [events] * events["repeat"] if isinstance(events, dict) else events
    seen: set[bytes] = set()
    accepted = []
    for index, event in enumerate(sent):
        identity = event_identity("ten", "live", event["source"], event["id"])
        if identity not in seen:
            accepted.append(index)
        seen.add(identity)
    assert accepted == case["expected"].get("accepted_indexes", [0])


def lago_weighted_sum(case: Case) -> None:
    """Events change the level there, by group; here they set it. Ends are inclusive there, to the millisecond."""
    inputs, expected, group_by = case["inputs"], case["expected"], case["inputs"].get("group_by", [])
    start, end = instant(inputs["from_datetime"]), instant(inputs["to_datetime"]) + MILLISECOND
    assert end - start == timedelta(days=inputs["period_days"])
    subject, measure = meter("weighted_sum", "level", tuple(group_by)), Measure(aggregation="weighted_sum")
    levels: dict[str, Decimal] = {}
    sent: list[Sent] = []
    if not group_by:
        levels[""] = dec(inputs["initial_value"])
        sent.append((start - SECOND, {"level": str(levels[""])}))
    for event in inputs["events"]:
        group = event["region"] if group_by else ""
        levels[group] = levels.get(group, Decimal(0)) + dec(event["value"])
        data = {"level": str(levels[group])} | {name: event[name] for name in group_by}
        sent.append((instant(event["timestamp"]), data))
    matches, issues = found(subject, sent)
    assert not issues
    usage = usage_of(subject, measure, matches, cut_windows(start, end, None, "UTC"), group_by)
    if group_by:
        rows = [(dict(row.dimensions), round_half_away(row.value or Decimal(0), 5)) for row in usage.rows]
        assert rows == [({"region": one["region"]}, rounded(one["value_rounded"])) for one in expected["groups"]]
        assert round_half_away(usage.total or Decimal(0), 5) == sum((value for _, value in rows), Decimal(0))
        return
    assert usage.total is not None
    assert round_half_away(usage.total, 5) == rounded(expected["aggregation_rounded"])
    assert sum(one.time_ms >= time_ms(start) for one in matches) == expected["count"]
    if "variation" in expected:
        assert levels[""] == dec(expected["total_aggregated_units"])
        assert levels[""] - dec(inputs["initial_value"]) == dec(expected["variation"])


def rounded(given: dict[str, Any]) -> Decimal:
    return round_half_away(dec(given["value"]), given["scale"])


def period(inputs: dict[str, Any]) -> tuple[datetime, datetime]:
    """Ends are inclusive there, to the second."""
    start, end = instant(inputs["from_datetime"]), instant(inputs["to_datetime"]) + SECOND
    assert end - start == timedelta(days=inputs["charges_duration_days"])
    return start, end


def lago_prorated_sum(case: Case) -> None:
    inputs, expected = case["inputs"], case["expected"]
    start, end = period(inputs)
    sent = [*inputs["persisted_events_before_period"], *inputs["events"]]
    subject = meter("sum", "value")
    matches, _ = found(subject, [(instant(one["timestamp"]), {"value": one["value"]}) for one in sent])
    assert sum(one.time_ms < time_ms(end) for one in matches) == expected["count"]
    if inputs["prorate"]:
        assert prorated_sum(matches, start, end, basis="days") == dec(expected["aggregation"])
    else:
        assert measured(matches, Measure(aggregation="sum"), 0, time_ms(end)) == dec(expected["aggregation"])


def lago_prorated_unique_count(case: Case) -> None:
    """Rounded at 5 digits there, at 12 here: compared at theirs."""
    start, end = period(case["inputs"])
    sent = [(instant(one["timestamp"]), {"key": one["unique_id"]}) for one in case["inputs"]["events"]]
    matches, _ = found(meter("unique_count", "key"), sent)
    for basis in PRORATIONS:
        count = prorated_unique_count(matches, start, end, basis=basis)
        assert round_half_away(count, 5) == dec(case["expected"]["aggregation"])


PRORATIONS: tuple[ProrationBasis, ...] = ("seconds", "days")
AREAS = {
    "om_meter_window_query": Area(om_meter_window_query),
    "om_aggregation_nulls": Area(om_aggregation_nulls, differs=nulls_differ),
    "om_event_parse": Area(
        om_event_parse,
        differs=lambda case: "null data is no properties object: refused" if case["id"] == "metering-017" else None,
    ),
    "om_dedupe": Area(om_dedupe),
    "lago_weighted_sum": Area(lago_weighted_sum),
    "lago_prorated_sum": Area(lago_prorated_sum),
    "lago_prorated_unique_count": Area(lago_prorated_unique_count),
}
LATER: dict[str, str] = {}
