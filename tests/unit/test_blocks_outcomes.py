"""What becomes of each event of a block: pure, so every rule is one small case."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import msgspec

from domain.block_decoding import MAX_RECORD_EVENTS
from domain.blocks import (
    EVALUATOR,
    Outcomes,
    decode_block,
    judge_block,
    pack_position,
    unpack_position,
    window_days,
)
from domain.catalog import CatalogLog
from domain.identity import event_identity, partition_of
from domain.records import MS_PER_DAY, MS_PER_HOUR, LogRecord, read_record
from schemas.catalog import CatalogChange, CatalogVersion
from schemas.meters import Meter

PARTITIONS = 4
RECEIVED_MS = 1_780_000_000_000
METER = Meter(id="met_a", key="a", event_types=("call",), aggregation="sum", value_property="n", dimensions=("r",))


def change(kind: Any, key: str, body: dict[str, Any] | None, tenant: str = "acme") -> CatalogChange:
    return CatalogChange(kind=kind, tenant=tenant, environment="live", key=key, body=body)


def catalog_log(*more: list[CatalogChange]) -> CatalogLog:
    log = CatalogLog()
    first = [
        change("meter", METER.id, msgspec.to_builtins(METER)),
        change("customer", "cus_1", {"id": "cus_1", "references": ["cus_1", "c1"]}),
    ]
    for version, changes in enumerate([first, *more], start=1):
        log.append(CatalogVersion(version=version, changes=changes))
    return log


def names(partition: int, count: int) -> list[str]:
    """Ids whose events belong to `partition`."""
    found: list[str] = []
    number = 0
    while len(found) < count:
        name = f"e{number}"
        if partition_of(event_identity("acme", "live", "", name), PARTITIONS) == partition:
            found.append(name)
        number += 1
    return found


MINE = names(0, 20)
ELSEWHERE = names(1, 3)


def sent(name: str, **fields: Any) -> dict[str, Any]:
    return {"id": name, "type": "call", "customer": "c1", "properties": {"n": 2, "r": "eu"}, **fields}


def record(offset: int, events: list[Any] | bytes, *, logged_ms: int = RECEIVED_MS, **fields: Any) -> LogRecord:
    defaults: dict[str, Any] = {
        "received_at_ms": RECEIVED_MS,
        "tenant": "acme",
        "environment": "live",
        "version": 0,
    }
    value = events if isinstance(events, bytes) else msgspec.json.encode(events)
    return LogRecord(offset=offset, logged_at_ms=logged_ms, value=value, **{**defaults, **fields})


def judged(*records: LogRecord, known: dict[str, bytes] | None = None, log: CatalogLog | None = None) -> Outcomes:
    catalog_ = log or catalog_log()
    decoded = decode_block(records, 0, PARTITIONS, catalog_.at(catalog_.head))
    earlier = known or {}
    return judge_block(decoded, [earlier.get(one.event.id) for one in decoded.candidates])


def codes(outcomes: Outcomes) -> list[str]:
    return [one.code for one in outcomes.rejected]


def test_a_stored_event_carries_what_it_matched_and_who_it_is() -> None:
    outcomes = judged(record(5, [sent(MINE[0])]))
    rows = outcomes.stored
    assert (rows.id, rows.customer, rows.customer_id) == ([MINE[0]], ["c1"], ["cus_1"])
    assert (rows.match_meter, rows.match_value, rows.match_dimensions) == (["met_a"], [Decimal(2)], [("eu",)])
    assert (rows.match_ends, rows.issue_ends) == ([0, 1], [0, 0])
    assert (rows.offset, rows.index, rows.time_ms) == ([5], [0], [RECEIVED_MS])
    assert outcomes.version == 1
    assert EVALUATOR == 4


def test_positions_pack_to_bytes_that_compare_as_they_do() -> None:
    positions = [(0, 0), (0, 9), (1, 0), (255, 3), (256, 0), (1 << 40, 0)]
    assert sorted(positions) == [unpack_position(one) for one in sorted(pack_position(*one) for one in positions)]


def test_a_duplicate_is_what_is_known_at_an_earlier_position() -> None:
    earlier = judged(record(5, [sent(MINE[0])]), known={MINE[0]: pack_position(4, 7)})
    assert (len(earlier.stored), earlier.duplicates[0].first_offset, earlier.duplicates[0].first_index) == (0, 4, 7)
    here = judged(record(5, [sent(MINE[0])]), known={MINE[0]: pack_position(5, 0)})
    assert len(here.stored) == 1
    later = judged(record(5, [sent(MINE[0])]), known={MINE[0]: pack_position(9, 0)})
    assert later.accepted == [
        (event_identity("acme", "live", "", MINE[0]), pack_position(5, 0), RECEIVED_MS // MS_PER_DAY)
    ]


def test_copies_within_a_block_are_resolved_among_themselves() -> None:
    outcomes = judged(record(5, [sent(MINE[0]), sent(MINE[1]), sent(MINE[0])]), record(6, [sent(MINE[1])]))
    assert outcomes.stored.index == [0, 1]
    assert [(one.offset, one.index, one.first_offset, one.first_index) for one in outcomes.duplicates] == [
        (5, 2, 5, 0),
        (6, 0, 5, 1),
    ]


def test_a_copy_after_the_window_of_log_time_is_new() -> None:
    days = window_days(catalog_log().at(1))
    assert days == 36
    late = record(6, [sent(MINE[0])], logged_ms=RECEIVED_MS + (days + 1) * MS_PER_DAY)
    assert len(judged(record(5, [sent(MINE[0])]), late).stored) == 2
    within = record(6, [sent(MINE[0])], logged_ms=RECEIVED_MS + days * MS_PER_DAY)
    assert len(judged(record(5, [sent(MINE[0])]), within).stored) == 1


def test_the_widest_limit_of_any_tenant_decides_the_window() -> None:
    log = catalog_log(
        [change("limits", "", {"max_event_age_s": 400 * 86_400}, tenant="other")],
        [change("limits", "", {"max_event_age_s": 86_400}, tenant="other")],
    )
    assert [window_days(log.at(version)) for version in (1, 2, 3)] == [36, 401, 401]


def test_an_event_of_another_partition_goes_on_with_its_receipt_and_is_not_judged_here() -> None:
    ancient = sent(ELSEWHERE[0], time="2001-01-01T00:00:00Z")
    outcomes = judged(record(5, [sent(ELSEWHERE[1]), sent(MINE[0])], received_at_ms=RECEIVED_MS - 7, version=1))
    (forwarded,) = outcomes.forwarded
    assert forwarded.partition == 1
    assert forwarded.events == 1
    assert dict(forwarded.headers)["received_at_ms"] == b"%d" % (RECEIVED_MS - 7)
    assert [one["id"] for one in msgspec.json.decode(forwarded.value)] == [ELSEWHERE[1]]
    assert codes(judged(record(5, [ancient]))) == ["event_too_old"]


def test_a_time_is_judged_by_the_receipt_and_nothing_else() -> None:
    at = datetime.fromtimestamp(RECEIVED_MS / 1000, UTC)
    old = sent(MINE[0], time=(at - timedelta(days=35, milliseconds=1)).isoformat())
    kept = sent(MINE[1], time=(at - timedelta(days=35)).isoformat())
    ahead = sent(MINE[2], time=(at + timedelta(hours=1, milliseconds=1)).isoformat())
    years_later = RECEIVED_MS + 3_000 * MS_PER_DAY
    outcomes = judged(record(5, [old, kept, ahead], logged_ms=years_later))
    assert codes(outcomes) == ["event_too_old", "event_in_future"]
    assert outcomes.stored.id == [MINE[1]]


def test_a_bad_event_spoils_no_other_of_its_record() -> None:
    outcomes = judged(record(5, [sent(MINE[0]), {"id": "x"}, 7, sent(MINE[1])]))
    assert outcomes.stored.id == [MINE[0], MINE[1]]
    assert [(one.index, one.code) for one in outcomes.rejected] == [(1, "field_missing"), (2, "not_an_object")]
    assert outcomes.rejected[0].original == b'{"id":"x"}'


def test_a_record_that_is_no_json_or_too_large_is_one_rejection_with_its_bytes() -> None:
    outcomes = judged(record(5, b"\xff{"), record(6, b"[" + b" " * (1 << 20)), record(7, b""))
    assert codes(outcomes) == ["malformed_json", "record_too_large", "malformed_json"]
    assert outcomes.rejected[0].original == b"\xff{"


def test_a_bare_event_without_headers_names_its_tenant_itself() -> None:
    named = sent(MINE[0], tenant="acme", environment="live")
    outcomes = judged(
        record(5, msgspec.json.encode(named), tenant="", environment=""),
        record(6, msgspec.json.encode(sent(MINE[1])), tenant="", environment=""),
    )
    assert (outcomes.stored.tenant, outcomes.stored.environment) == (["acme"], ["live"])
    assert codes(outcomes) == ["tenant_missing"]


def test_an_unknown_customer_is_stored_without_changes_unless_the_tenant_refuses_it() -> None:
    stranger = sent(MINE[0], customer="nobody")
    stored = judged(record(5, [stranger]))
    assert (stored.stored.customer_id, stored.changes) == ([""], [])
    log = catalog_log([change("limits", "", {"reject_unknown_customer": True})])
    assert codes(judged(record(5, [stranger]), log=log)) == ["unknown_customer"]


def test_what_was_accepted_is_not_rejected_by_limits_that_were_narrowed_since() -> None:
    log = catalog_log(
        [change("limits", "", {"max_event_age_s": 400 * 86_400})],
        [change("limits", "", {"max_event_age_s": 60, "reject_unknown_customer": True})],
    )
    accepted_at = log.head - 1
    old = (datetime.fromtimestamp(RECEIVED_MS / 1000, UTC) - timedelta(days=100)).isoformat()
    event = sent(MINE[0], customer="nobody", time=old)
    assert codes(judged(record(5, [event], version=accepted_at), log=log)) == []
    assert codes(judged(record(5, [event], version=log.head), log=log)) == ["event_too_old"]


def test_counts_are_per_tenant_and_receipt_hour_and_sum_to_what_was_read() -> None:
    later = RECEIVED_MS + MS_PER_HOUR
    outcomes = judged(
        record(5, [sent(MINE[0]), sent(MINE[0]), {"id": "x"}, sent(ELSEWHERE[0])]),
        record(6, [sent(MINE[1])], received_at_ms=later),
    )
    first, second = outcomes.counts
    assert (first.stored, first.duplicate, first.rejected, first.forwarded) == (1, 1, 1, 1)
    assert (second.hour, second.stored) == (later // MS_PER_HOUR, 1)


def test_changes_sum_by_customer_meter_and_event_second() -> None:
    at = datetime.fromtimestamp(RECEIVED_MS // 1000, UTC)
    values = [("4", 0), ("-1", 400), ("2.5", 999), ("7", 1000)]
    events = [
        sent(name, properties={"n": value}, time=(at + timedelta(milliseconds=ms)).isoformat())
        for name, (value, ms) in zip(MINE, values, strict=False)
    ]
    first, second = judged(record(5, events)).changes
    assert (first.matches, first.values, first.total) == (3, 3, Decimal("5.5"))
    assert (first.lowest, first.highest) == (Decimal(-1), Decimal(4))
    assert first.latest is not None
    assert (first.latest.value, first.latest.index) == (Decimal("2.5"), 2)
    assert (second.second, second.total) == (first.second + 1, Decimal(7))


def test_the_row_hash_sees_every_column_but_not_the_ledgers() -> None:
    plain = judged(record(5, [sent(MINE[0])])).row_hash
    assert judged(record(5, [sent(MINE[0])])).row_hash == plain
    assert judged(record(5, [sent(MINE[0], properties={"n": 3, "r": "eu"})])).row_hash != plain
    assert judged(record(6, [sent(MINE[0])])).row_hash != plain
    without_customer = catalog_log([change("customer", "cus_1", None)])
    assert judged(record(5, [sent(MINE[0])]), log=without_customer).row_hash != plain


def test_a_block_over_more_than_three_event_years_is_too_wide() -> None:
    log = catalog_log([change("limits", "", {"max_event_age_s": 10 * 366 * 86_400})])
    at = datetime.fromtimestamp(RECEIVED_MS / 1000, UTC)
    events = [sent(name, time=at.replace(year=at.year - years).isoformat()) for years, name in enumerate(MINE[:4])]
    assert judged(record(5, events), log=log).too_wide
    assert not judged(record(5, events[:3]), log=log).too_wide


def test_headers_that_make_no_sense_count_as_missing() -> None:
    trusted = [("tenant", b"acme"), ("environment", b"live")]
    assert read_record(1, 50, b"{}", [*trusted, ("received_at_ms", b"40"), ("version", b"3")]).received_at_ms == 40
    assert read_record(1, 50, b"{}", [*trusted, ("received_at_ms", b"soon")]).received_at_ms == 50
    assert read_record(1, 50, b"{}", [("tenant", b"acme")]).foreign
    assert read_record(1, 50, b"{}", [("tenant", b"\xff"), ("environment", b"live")]).foreign
    assert read_record(1, 50, None, []).value == b""


def test_the_brake_counts_rejections_in_a_row_across_blocks() -> None:
    bad = {"id": "x"}
    all_bad = judged(record(5, [bad, bad]))
    assert all_bad.reject_streak(7) == (9, 9)
    ends_well = judged(record(5, [bad, bad, sent(MINE[0])]))
    assert ends_well.reject_streak(7) == (7, 0)
    ends_badly = judged(record(5, [sent(MINE[0]), bad, sent(ELSEWHERE[0]), bad, bad]))
    assert ends_badly.reject_streak(1) == (2, 2)


def test_what_was_refused_keeps_the_name_and_the_owner_that_can_be_read() -> None:
    bare = {"id": "x", "source": "s", "tenant": "acme", "environment": "live"}
    owned = judged(record(5, [bare], tenant="", environment="")).rejected[0]
    assert (owned.code, owned.tenant, owned.environment, owned.source, owned.id) == (
        "field_missing",
        "acme",
        "live",
        "s",
        "x",
    )
    half = judged(record(5, [{**sent("x"), "tenant": "acme"}], tenant="", environment="")).rejected[0]
    assert (half.code, half.tenant, half.environment, half.id) == ("tenant_missing", "", "", "x")
    numbered = judged(record(5, [{"id": 7, "source": "\x00"}])).rejected[0]
    assert (numbered.code, numbered.source, numbered.id) == ("wrong_type", "", "")


def test_a_copy_keeps_what_it_said() -> None:
    other = sent(MINE[0], customer="c2", properties={"n": Decimal("1.50")}, time="2026-05-28T20:00:00Z")
    outcomes = judged(record(5, [sent(MINE[0]), other, sent(MINE[0])]))
    assert [(one.customer, one.properties, one.time_ms is None) for one in outcomes.duplicates] == [
        ("c2", b'{"n":"1.50"}', False),
        ("c1", b'{"n":2,"r":"eu"}', True),
    ]


def test_a_record_of_a_format_that_is_not_ours_is_refused_whole() -> None:
    sound = msgspec.json.encode([sent(MINE[0])])
    owner = [("tenant", b"acme"), ("environment", b"live")]
    for named in (b"2", b"", b"\xff", b"avro"):
        outcomes = judged(read_record(5, RECEIVED_MS, sound, [*owner, ("format", named)]))
        assert (codes(outcomes), outcomes.rejected[0].tenant, outcomes.rejected[0].original) == (
            ["format_unknown"],
            "acme",
            sound,
        )
    assert len(judged(read_record(5, RECEIVED_MS, sound, owner)).stored) == 1


def test_a_record_of_more_events_than_can_be_sound_is_refused_whole() -> None:
    outcomes = judged(record(5, b"[" + b",".join([b"1"] * (MAX_RECORD_EVENTS + 1)) + b"]"))
    assert codes(outcomes) == ["record_too_large"]


def test_a_receipt_beyond_any_calendar_counts_as_missing() -> None:
    owner = [("tenant", b"acme"), ("environment", b"live")]
    for sent_ms, read_ms in ((b"9" * 18, RECEIVED_MS), (b"-5", RECEIVED_MS), (b"86400000", 86_400_000)):
        found = read_record(5, RECEIVED_MS, b"[]", [*owner, ("received_at_ms", sent_ms)])
        assert found.received_at_ms == read_ms
