"""A block read and judged by columns is the block that one event after the other gives."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from random import Random
from typing import Any

import msgspec
import pytest

from domain.block_deltas import ChangeSet
from domain.blocks import Outcomes, decode_block, judge_block
from domain.candidates import pack_position, pack_positions
from domain.catalog import Catalog, CatalogLog
from domain.events import decode_properties
from domain.records import LogRecord
from domain.sound_records import read_sound
from schemas.blocks import StoredColumns
from schemas.catalog import CatalogChange, CatalogVersion, TenantLimits
from schemas.meters import Meter, MeterFilter
from stores.clickhouse.blocks import BlockConstants, encode_block

RECEIVED_MS = 1_780_000_000_000
AT = datetime.fromtimestamp(RECEIVED_MS / 1000, UTC)
METERS = [
    Meter(id="met_a", key="a", event_types=("call", "ring"), aggregation="sum", value_property="n", dimensions=("r",)),
    Meter(id="met_b", key="b", event_types=("call",), aggregation="count"),
    Meter(
        id="met_c", key="c", event_types=("ring",), aggregation="unique_count", value_property="r", value_required=True
    ),
    Meter(
        id="met_d",
        key="d",
        event_types=("call",),
        aggregation="max",
        value_property="n",
        filters=(MeterFilter(property="r", op="eq", value="eu"),),
        dimensions=("r", "o.p"),
        non_negative=True,
    ),
    Meter(id="met_e", key="e", event_types=("call",), aggregation="sum", value_expression="n / 4 - coalesce(o.p, 1)"),
]


def catalog() -> Catalog:
    log = CatalogLog()
    changes = [
        CatalogChange(kind="meter", tenant=tenant, environment="live", key=one.id, body=msgspec.to_builtins(one))
        for tenant in ("acme", "other")
        for one in METERS
    ]
    changes += [
        CatalogChange(
            kind="customer",
            tenant="acme",
            environment="live",
            key=f"cus_{number}",
            body={"id": f"cus_{number}", "references": [f"c{number}"]},
        )
        for number in range(2)
    ]
    log.append(CatalogVersion(version=1, changes=changes))
    return log.at(1)


CATALOG = catalog()


def records(random: Random, values: list[Any]) -> list[LogRecord]:
    """A few records of two tenants, whose events have one of `values`."""
    found = []
    for offset in range(random.randrange(1, 8)):
        events = [
            {
                "id": f"e{random.randrange(150)}",
                "type": random.choice(["call", "call", "ring", "none"]),
                "customer": random.choice(["c0", "c1", "nobody"]),
                "source": random.choice(["", "s"]),
                "time": (AT - timedelta(milliseconds=random.randrange(3000))).isoformat(),
                "properties": {"n": random.choice(values), "r": random.choice(["eu", "us", ""]), "o": {"p": 1}},
            }
            for _ in range(random.randrange(25))
        ]
        found.append(
            LogRecord(
                offset=offset,
                logged_at_ms=RECEIVED_MS + random.randrange(5),
                received_at_ms=RECEIVED_MS,
                tenant=random.choice(["acme", "acme", "other"]),
                environment="live",
                version=1,
                value=msgspec.json.encode(events),
            )
        )
    return found


def judged(block: list[LogRecord]) -> Outcomes:
    decoded = decode_block(block, 0, 1, CATALOG)
    return judge_block(decoded, [None] * len(decoded.candidates))


VALUES = [[1, 2, "30", -4], [10**17, 10**18 - 1, 1 - 10**18], [10**18, 5, "1.5", None, [], "x"], ["0.25", "7", 0]]


@pytest.mark.parametrize("values", VALUES)
def test_reading_by_columns_changes_no_outcome(values: list[Any]) -> None:
    for seed in range(40):
        block = records(Random(seed), values)
        # Behind its last event each record gets what is none: then every event is asked for itself.
        spoilt = [
            msgspec.structs.replace(one, value=one.value[:-1] + (b"7]" if one.value == b"[]" else b",7]"))
            for one in block
        ]
        quick, plain = judged(block), judged(spoilt)
        assert len(plain.rejected) == len(block)
        assert (quick.stored, quick.row_hash) == (plain.stored, plain.row_hash)
        assert (quick.changes, quick.accepted) == (plain.changes, plain.accepted)
        assert quick.duplicates == plain.duplicates


@pytest.mark.parametrize("values", VALUES)
def test_matches_and_changes_are_those_of_one_event_after_the_other(values: list[Any]) -> None:
    for seed in range(40):
        outcomes = judged(records(Random(seed), values))
        rows, changes = outcomes.stored, ChangeSet(0)
        matched: list[Any] = []
        issued: list[Any] = []
        for place in range(len(rows)):
            scope = (rows.tenant[place], rows.environment[place])
            compiled = CATALOG.compiled(*scope)
            matches, issues = compiled.evaluate(rows.type[place], decode_properties(rows.properties[place]))
            for number, value, unique_key, dimensions in matches:
                meter = compiled.meters[number]
                matched.append((meter.id, meter.generation, value, unique_key, dimensions))
                if customer_id := rows.customer_id[place]:
                    time_ms = rows.time_ms[place]
                    key = (*scope, customer_id, meter.id, meter.generation, time_ms // 1000)
                    changes.add(key, value, time_ms, rows.logged_at_ms[place], rows.offset[place], rows.index[place])
            issued += [(compiled.meters[number].id, code) for number, code in issues]
            assert (rows.match_ends[place + 1], rows.issue_ends[place + 1]) == (len(matched), len(issued))
        columns = (
            rows.match_meter,
            rows.match_generation,
            rows.match_value,
            rows.match_unique_key,
            rows.match_dimensions,
        )
        assert list(zip(*columns, strict=True)) == matched
        assert list(zip(rows.issue_meter, rows.issue_code, strict=True)) == issued
        assert outcomes.changes == changes.changes()
        assert all(type(change.total) is Decimal for change in outcomes.changes)


def test_sums_of_whole_numbers_are_exact_beyond_a_machine_word() -> None:
    most = 10**18 - 1
    event = {"type": "call", "customer": "c0", "properties": {"n": most}, "time": AT.isoformat()}
    body = msgspec.json.encode([{"id": f"e{number}", **event} for number in range(50)])
    [record] = records_of(body)
    [total] = [one.total for one in judged([record]).changes if one.meter_id == "met_a"]
    assert total == 50 * most


def records_of(*bodies: bytes) -> list[LogRecord]:
    return [
        LogRecord(
            offset=offset,
            logged_at_ms=RECEIVED_MS,
            received_at_ms=RECEIVED_MS,
            tenant="acme",
            environment="live",
            version=1,
            value=body,
        )
        for offset, body in enumerate(bodies)
    ]


def test_what_is_not_plainly_sound_is_left_to_the_plain_rule() -> None:
    limits = TenantLimits()
    sound = b'{"id":"e","type":"call","customer":"c","properties":{"a":[{}]}}'
    deep = b'{"id":"e","type":"call","customer":"c","properties":{"a":' + b"[" * 31 + b"]" * 31 + b"}}"
    assert read_sound(b"[" + sound + b"]", RECEIVED_MS, limits) is not None
    for refused in (
        deep.replace(b"[" * 31, b"[" * 32).replace(b"]" * 31, b"]" * 32),
        sound.replace(b'"e"', b'""'),
        sound.replace(b'"e"', b'"\\u0001"'),
        sound.replace(b'"e"', b'"' + b"e" * 256 + b'"'),
        sound.replace(b"}}", b'},"time":"2001-01-01T00:00:00Z"}'),
        sound.replace(b"}}", b'},"time":"2026-05-28T20:26:40"}'),
        sound.replace(b"}}", b'},"tenant":"acme"}'),
        sound.replace(b"[{}]", b'"' + b"x" * (256 << 10) + b'"'),
        b"1",
    ):
        assert read_sound(b"[" + sound + b"," + refused + b"]", RECEIVED_MS, limits) is None, refused[:80]
    assert read_sound(b"[" + deep + b"]", RECEIVED_MS, limits) is not None
    assert read_sound(sound, RECEIVED_MS, limits) is None


def test_positions_packed_together_are_those_packed_alone() -> None:
    offsets, indexes = [0, 5, 1 << 40], [0, 7, 9]
    assert pack_positions(offsets, indexes) == [pack_position(*one) for one in zip(offsets, indexes, strict=True)]
    assert pack_positions([], []) == []


@pytest.mark.parametrize("values", [[1, None, 10**18 - 1], [1, None, Decimal("-1.5")], [Decimal("0.000000000001")], []])
def test_quantities_are_encoded_as_they_are(values: list[int | Decimal | None]) -> None:
    count = len(values)
    texts = ("tenant", "environment", "source", "id", "type", "customer", "customer_id")
    numbers = ("time_ms", "received_at_ms", "logged_at_ms", "offset", "index")
    shared: dict[str, Any] = {**dict.fromkeys(texts, ["x"] * count), **dict.fromkeys(numbers, [0] * count)}
    columns = StoredColumns(
        **shared,
        properties=[b"{}"] * count,
        identity=[b"i" * 16] * count,
        match_ends=list(range(count + 1)),
        match_meter=["met_a"] * count,
        match_generation=[1] * count,
        match_value=values,
        match_unique_key=[""] * count,
        match_dimensions=[()] * count,
        issue_ends=[0] * (count + 1),
    )
    constants = BlockConstants(
        topic_id="t", partition=0, first_offset=0, last_offset=0, version=1, evaluator=1, first_logged_at_ms=0
    )
    batch = encode_block(columns, constants)
    assert [one for row in batch.column("matches.value").to_pylist() for one in row] == values
