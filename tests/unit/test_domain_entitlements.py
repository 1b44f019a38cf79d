from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest

from domain.entitlements import check, combined, crossings, first_allowed
from domain.errors import Invalid
from schemas.contracts import Entitlement
from schemas.entitlements import CheckReason

D = Decimal
START = datetime(2026, 1, 1, tzinfo=UTC)
NOW = datetime(2026, 6, 1, tzinfo=UTC)


def held(**changes: Any) -> Entitlement:
    fields: dict[str, Any] = {
        "feature_id": "fea_1",
        "feature_key": "tokens",
        "kind": "metered",
        "subscription_id": "sub_1",
        "starts_at": START,
        "meter_id": "met_1",
        "limit": D(100),
        "anchor_at": START,
    }
    return Entitlement(**(fields | changes))


@pytest.mark.parametrize(
    ("usage", "quantity", "soft", "allowed", "reason", "balance", "overage"),
    [
        (0, 0, False, True, "within_limit", 100, 0),
        (99, 0, False, True, "within_limit", 1, 0),
        (99, 1, False, True, "within_limit", 1, 0),
        (99, 2, False, False, "limit_exceeded", 1, 0),
        (100, 0, False, False, "limit_exceeded", 0, 0),
        (130, 0, False, False, "limit_exceeded", 0, 30),
        (99, 2, True, True, "soft_limit_exceeded", 1, 0),
        (130, 0, True, True, "soft_limit_exceeded", 0, 30),
        (-5, 105, False, True, "within_limit", 105, 0),
    ],
)
def test_a_check_says_whether_so_much_more_fits(
    usage: int, quantity: int, *, soft: bool, allowed: bool, reason: CheckReason, balance: int, overage: int
) -> None:
    answer = check(held(soft=soft), usage=D(usage), quantity=D(quantity), resets_at=NOW, as_of=START)
    assert (answer.allowed, answer.reason, answer.balance, answer.overage) == (allowed, reason, D(balance), D(overage))
    assert (answer.usage, answer.limit, answer.resets_at, answer.as_of) == (D(usage), D(100), NOW, START)


def test_unknown_usage_is_never_zero_used() -> None:
    answer = check(held(), usage=None)
    assert (answer.allowed, answer.reason, answer.usage, answer.balance) == (False, "unknown_usage", None, None)
    assert check(held(limit=None), usage=None).reason == "unlimited"


def test_features_without_a_meter_answer_without_quantities() -> None:
    assert check(None).reason == "not_entitled"
    assert check(held(kind="boolean")).reason == "enabled"
    assert check(held(kind="boolean", enabled=False)).allowed is False
    static = check(held(kind="static", config="gold"))
    assert (static.allowed, static.config, static.usage) == (True, "gold", None)
    with pytest.raises(Invalid):
        check(held(), usage=D(0), quantity=D(-1))


def test_limits_of_several_subscriptions_add_up_and_unlimited_wins() -> None:
    second = held(subscription_id="sub_2", limit=D(50), soft=True)
    (both,) = combined([held(), second], NOW)
    assert (both.limit, both.soft) == (D(150), True)
    (unlimited,) = combined([held(), held(subscription_id="sub_2", limit=None)], NOW)
    assert unlimited.limit is None
    (enabled,) = combined([held(kind="boolean", enabled=False), held(kind="boolean", subscription_id="sub_2")], NOW)
    assert enabled.enabled


def test_what_is_not_in_force_or_counts_otherwise_stays_apart() -> None:
    ended, later = held(ends_at=NOW), held(starts_at=NOW, ends_at=None, anchor_at=NOW)
    assert combined([ended], NOW) == []
    assert combined([later, ended], NOW) == [later]
    daily = held(subscription_id="sub_2", usage_period="day")
    assert len(combined([held(), daily], NOW)) == 2
    answers = [check(held(), usage=D(100)), check(daily, usage=D(10))]
    assert first_allowed(answers).allowed
    assert first_allowed(answers[:1]).reason == "limit_exceeded"
    assert first_allowed([]).reason == "not_entitled"


def test_thresholds_are_crossed_once_in_order_and_when_reached() -> None:
    def percents(before: int, after: int, limit: int | None = 200) -> list[int]:
        return [
            each.percent
            for each in crossings(D(before), D(after), None if limit is None else D(limit), (100, 50, 80, 50))
        ]

    assert percents(0, 99) == []
    assert percents(0, 100) == [50]
    assert percents(100, 159) == []
    assert percents(0, 1000) == [50, 80, 100]
    assert percents(159, 200) == [80, 100]
    assert percents(200, 150) == []
    assert percents(0, 1000, None) == []
    assert percents(0, 1, 0) == [50, 80, 100]
    assert percents(1, 2, 0) == []
