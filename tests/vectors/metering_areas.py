"""Adapters of `metering.json`: events to values."""

from datetime import datetime
from decimal import Decimal
from typing import Any, cast

import msgspec
import pytest

from domain.aggregates import LogPosition, fold, value
from domain.errors import Invalid
from domain.events import decode_properties, encode_properties, parse_event
from domain.identity import event_identity
from domain.meters import Match, compile_meters
from domain.periods import calendar_anchor, period_at, periods_between
from schemas.catalog import TenantLimits
from schemas.meters import Aggregation, Meter
from schemas.periods import Cadence, CadenceUnit
from tests.vectors.cases import Area, Case, dec, instant

WINDOWS: dict[str, CadenceUnit] = {"MINUTE": "minute", "HOUR": "hour", "DAY": "day"}


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


def aggregated(subject: Meter, events: list[tuple[datetime, dict[str, Any]]]) -> tuple[Decimal | None, list[str]]:
    compiled, matches, codes = compile_meters([subject]), list[tuple[Match, int, LogPosition]](), list[str]()
    for offset, (at, data) in enumerate(events):
        found, issues = compiled.evaluate("t", decode_properties(msgspec.json.encode(data)))
        matches += [(match, int(at.timestamp() * 1000), (0, 0, offset, 0)) for match in found]
        codes += [code for _, code in issues]
    return value(fold(matches), subject.aggregation), codes


def om_meter_window_query(case: Case) -> None:
    inputs, query = case["inputs"], case["inputs"]["query"]
    start, end, subject = instant(query["from"]), instant(query["to"]), meter(inputs["aggregation"], "$.value")
    events = [(instant(event["time"]), {"value": event["value"]}) for event in inputs["events"]]
    windows = [(start, end)]
    if "window_size" in query:
        cadence, zone = Cadence(unit=WINDOWS[query["window_size"]]), query["timezone"]
        anchor = calendar_anchor(start, cadence, zone)
        first = period_at(anchor, cadence, zone, start).start
        windows = [(period.start, period.end) for period in periods_between(anchor, cadence, zone, first, end)]
    rows = []
    for opened, closed in windows:
        inside = [(at, data) for at, data in events if opened <= at < closed]
        if inside:
            rows.append((aggregated(subject, inside)[0], opened, closed))
    assert rows == [
        (dec(row["value"]), instant(row["window_start"]), instant(row["window_end"]))
        for row in case["expected"]["rows"]
    ]


def om_aggregation_nulls(case: Case) -> None:
    """16 digits after the point are an issue of the meter here, not a value: what is left is 123 and a null."""
    inputs = case["inputs"]
    at = instant("2026-01-01T00:00:00Z")
    found, codes = aggregated(
        meter(inputs["aggregation"], inputs["value_property"]), [(at, event["data"]) for event in inputs["events"]]
    )
    if nulls_differ(case):
        assert (found, codes) == (Decimal(123), ["too_many_fraction_digits", "value_missing"])
    else:
        wanted = case["expected"]["value"]
        assert found == (None if wanted is None else Decimal(wanted))


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


AREAS = {
    "om_meter_window_query": Area(om_meter_window_query),
    "om_aggregation_nulls": Area(om_aggregation_nulls, differs=nulls_differ),
    "om_event_parse": Area(
        om_event_parse,
        differs=lambda case: "null data is no properties object: refused" if case["id"] == "metering-017" else None,
    ),
    "om_dedupe": Area(om_dedupe),
}
LATER = {
    "lago_weighted_sum": "weighted_sum is not built yet",
    "lago_prorated_sum": "units weighed by time are not built yet",
    "lago_prorated_unique_count": "units weighed by time are not built yet",
}
