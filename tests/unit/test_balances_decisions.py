"""Checks from state records: by any name, exact at the limit, never "0 used" for unknown, the greatest version kept."""

import json
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import msgspec
import pytest

from api.auth import Principal
from api.check import Checker, CheckRefusal, CheckResult, UsageUnknown
from api.entitlements_view import EntitlementsFold
from domain.errors import Invalid, NotFound
from schemas.contracts import CounterState, CustomerContract, Entitlement, EntitlementsState, PartitionFreshness
from schemas.periods import FOREVER
from stores.kafka import Record
from tests.support.entitlements import BEGAN, NOW, held

MONTH_END = datetime(2026, 4, 10, tzinfo=UTC)
PRINCIPAL = Principal(tenant="acme", environment="live", scopes=frozenset(), key_id="key_1")


def counter(value: str | None, end: datetime = MONTH_END, start: datetime = BEGAN) -> CounterState:
    return CounterState(
        meter_id="met_1",
        generation=1,
        aggregation="sum",
        start_at=start,
        end_at=end,
        value=None if value is None else Decimal(value),
    )


def state(*entitlements: Entitlement, counters: tuple[CounterState, ...] = (), **changes: Any) -> EntitlementsState:
    contract = CustomerContract(
        version=1,
        tenant="acme",
        environment="live",
        customer_id="cus_1",
        references=changes.pop("references", ["cus_1", "acme-1"]),
        entitlements=list(entitlements),
    )
    common = EntitlementsState(
        version=(1, 1), as_of_ms=int(NOW.timestamp() * 1000), contract=contract, counters=list(counters)
    )
    return msgspec.structs.replace(common, **changes)


def record(value: msgspec.Struct, key: bytes = b"acme/live/cus_1") -> Record:
    return Record(partition=2, offset=0, timestamp_ms=0, key=key, value=msgspec.json.encode(value))


def folded(*states: EntitlementsState) -> EntitlementsFold:
    fold = EntitlementsFold()
    for one in states:
        fold.apply(record(one))
    return fold


def asked(fold: EntitlementsFold, quantity: object = "0", customer: str = "acme-1", at: datetime = NOW) -> CheckResult:
    body = msgspec.json.encode({"customer": customer, "feature": "tokens", "quantity": quantity})
    return Checker(fold, PRINCIPAL, at).answer(body)


def test_the_limit_holds_to_the_last_digit() -> None:
    fold = folded(state(held(), counters=(counter("99.500000000000"),)))
    fits = asked(fold, "0.5")
    assert (fits.allowed, fits.reason, fits.usage, fits.balance, fits.overage) == (
        True,
        "within_limit",
        "99.5",
        "0.5",
        "0",
    )
    assert (fits.resets_at, fits.as_of, fits.stale) == (MONTH_END, NOW, False)
    assert asked(fold, "0.500000000001").reason == "limit_exceeded"


def test_a_customer_is_found_by_every_name_and_no_longer_by_a_former_one() -> None:
    renamed = state(held(), counters=(counter("1"),), references=["cus_1", "acme-2"], version=(2, 1))
    fold = folded(state(held(), counters=(counter("1"),)), renamed)
    assert asked(fold, customer="cus_1") == asked(fold, customer="acme-2")
    for unknown in ("acme-1", "nobody"):
        with pytest.raises(NotFound):
            asked(fold, customer=unknown)
    stranger = Principal(tenant="other", environment="live", scopes=frozenset(), key_id="key_2")
    with pytest.raises(NotFound):
        Checker(fold, stranger, NOW).standings("cus_1")


def test_unknown_usage_is_never_answered_as_none_used() -> None:
    with pytest.raises(UsageUnknown):
        asked(folded(state(held())))
    began_since = state(held(), as_of_ms=int(BEGAN.timestamp() * 1000) - 1)
    assert asked(folded(began_since), at=BEGAN).usage == "0"
    assert asked(folded(state(held(), counters=(counter(None),)))).usage == "0"  # an aggregate of nothing


def test_the_next_period_begins_by_itself() -> None:
    following = counter("3", start=MONTH_END, end=datetime(2026, 5, 10, tzinfo=UTC))
    fold = folded(state(held(), counters=(counter("100"), following)))
    assert not asked(fold).allowed
    assert not asked(fold, at=MONTH_END - timedelta(seconds=1)).allowed
    assert asked(fold, at=MONTH_END).usage == "3"
    never = held(usage_period="never")
    without_end = asked(folded(state(never, counters=(counter("5", end=FOREVER),))))
    assert (without_end.usage, without_end.resets_at) == ("5", None)


def test_the_greatest_version_is_kept_not_the_last() -> None:
    newer = state(held(), counters=(counter("9"),), version=(7, 1))
    zombie = state(held(), counters=(counter("1"),), version=(6, 9))
    assert asked(folded(newer, zombie)).usage == "9"


def test_freshness_is_the_partition_s_and_old_answers_are_marked() -> None:
    fold = folded(state(held(), counters=(counter("9"),)))
    later = NOW + timedelta(seconds=30)
    assert asked(fold, at=later).stale
    told = PartitionFreshness(partition=2, version=(2, 1), as_of_ms=int(later.timestamp() * 1000))
    fold.apply(record(told, b"@as_of/2"))
    fold.apply(record(msgspec.structs.replace(told, version=(1, 1), as_of_ms=1), b"@as_of/2"))
    fresh = asked(fold, at=later)
    assert (fresh.stale, fresh.as_of) == (False, later)


def test_other_kinds_and_what_is_not_granted() -> None:
    support = held(feature_id="fea_2", feature_key="support", kind="boolean")
    region = held(feature_id="fea_3", feature_key="region", kind="static", config='{"name":"eu"}')
    ended = held(feature_id="fea_4", feature_key="ended", kind="boolean", ends_at=NOW)
    checker = Checker(folded(state(support, region, ended)), PRINCIPAL, NOW)
    assert {one.feature: (one.allowed, one.reason, one.config) for one in checker.standings("cus_1")} == {
        "support": (True, "enabled", None),
        "region": (True, "enabled", '{"name":"eu"}'),
        "ended": (False, "not_entitled", None),
    }


def test_each_check_of_an_array_is_answered_by_itself() -> None:
    checker = Checker(folded(state(held(), counters=(counter("1"),))), PRINCIPAL, NOW)
    good = {"customer": "cus_1", "feature": "tokens", "quantity": 99}
    bad: list[tuple[object, str]] = [
        ({"customer": "nobody", "feature": "tokens"}, "customer_not_found"),
        ({"customer": "cus_1"}, "invalid_request"),
        ({**good, "more": 1}, "invalid_request"),
        ({**good, "quantity": "-1"}, "quantity_negative"),
        ({**good, "quantity": "NaN"}, "not_a_number"),
        ({**good, "quantity": None}, "not_a_number"),
        ({**good, "quantity": int("9" * 60)}, "quantity_out_of_range"),
        ("text", "invalid_request"),
    ]
    asked = [good, *(one for one, _ in bad)]
    [first, *others] = checker.answer_each(json.dumps(asked).encode())
    assert isinstance(first, CheckResult)
    assert first.allowed
    codes = [one.error.code for one in others if isinstance(one, CheckRefusal)]
    assert codes == [code for _, code in bad]
    with pytest.raises(Invalid):
        checker.answer(b"{")


@pytest.mark.parametrize("quantity", ["1e99999999999999999999", "1e9999", "-1e-99999999999999999999"])
def test_a_quantity_that_no_decimal_holds_is_refused_alone_and_in_an_array(quantity: str) -> None:
    checker = Checker(folded(state(held(), counters=(counter("1"),))), PRINCIPAL, NOW)
    body = f'{{"customer":"cus_1","feature":"tokens","quantity":{quantity}}}'.encode()
    with pytest.raises(Invalid):
        checker.answer(body)
    [refused] = checker.answer_each(b"[" + body + b"]")
    assert isinstance(refused, CheckRefusal)


def test_an_array_of_sound_checks_is_answered_as_each_of_them_alone() -> None:
    checker = Checker(folded(state(held(), counters=(counter("1"),))), PRINCIPAL, NOW)
    asked = [{"customer": "cus_1", "feature": "tokens", "quantity": quantity} for quantity in (0, "1.50", 99, 1000)]
    together = checker.answer_each(json.dumps(asked).encode())
    assert together == [checker.answer(json.dumps(one).encode()) for one in asked]
