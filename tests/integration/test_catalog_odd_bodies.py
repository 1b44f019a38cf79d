"""Whatever is sent to plans, add-ons and prices: it is refused by a code of ours, or taken; never a bug of ours."""

from typing import Any

import msgspec

from tests.support.catalog_api import catalog_api

HUGE = 10**40
PLAN: dict[str, Any] = {
    "key": "pro",
    "currency": "EUR",
    "prices": [{"key": "a", "price": {"model": "flat", "amount": 1}}],
}
ADDON: dict[str, Any] = {
    "key": "more",
    "currency": "EUR",
    "rate_cards": [{"price": PLAN["prices"][0], "cadence": {"unit": "month"}}],
}
RANGE = {"from": "2026-05-01T00:00:00Z", "to": "2026-06-01T00:00:00Z"}
ODD: tuple[Any, ...] = (
    None,
    [],
    "text",
    HUGE,
    -1,
    {"unknown": 1},
    "\x00",
    ["\x00"],
    {"key": "\x00", "price": {"model": "flat", "amount": "1"}},
    [{"key": "a", "price": {"model": "per_unit", "unit_amount": "1e999999999"}, "quantity": HUGE}],
    [{"key": "a", "price": {"model": "percentage", "rate_percent": 1, "free_events": HUGE}}],
    [{"key": "a", "duration": {"unit": "month", "count": HUGE}}, {"key": "\x00"}],
    [{"key": "a", "rate_cards": [{"price": PLAN["prices"][0], "cadence": {"unit": "minute", "count": 0}}]}],
    [{"type": "metered", "feature": "\x00", "limit": "NaN", "thresholds": [HUGE]}],
)
FIELDS = {
    ("POST", "/v1/plans/pro/versions"): "family level cadence prices entitlements phases from_version",
    ("PATCH", "/v1/plans/pro/versions/2"): "family level cadence prices entitlements phases",
    ("PATCH", "/v1/plans/pro"): "name",
    ("POST", "/v1/plans/pro/clone"): "key name version",
    ("POST", "/v1/addons"): "key name currency max_quantity plans rate_cards entitlements",
    ("POST", "/v1/addons/more/versions"): "max_quantity plans rate_cards entitlements from_version",
    ("PATCH", "/v1/addons/more/versions/2"): "max_quantity plans rate_cards entitlements",
    ("PATCH", "/v1/addons/more"): "name",
    ("POST", "/v1/prices/backtest"): "from to customers holders_of currency prices plan version at",
}
WHOLE: dict[str, dict[str, Any]] = {
    "/v1/plans/pro/clone": {"key": "copy"},
    "/v1/addons": {**ADDON, "key": "other"},
    "/v1/prices/backtest": {**RANGE, "customers": [], "currency": "EUR", "prices": PLAN["prices"]},
}


async def test_no_body_is_answered_with_a_bug_of_ours(postgres_url: str) -> None:
    async with catalog_api(postgres_url, "test_odd_bodies") as api:
        await api.made("/v1/plans", PLAN)
        await api.made("/v1/addons", ADDON)
        await api.made("/v1/plans/pro/versions", {})
        await api.made("/v1/addons/more/versions", {})
        wrong: list[tuple[str, str, bytes, int]] = []
        for (method, url), fields in FIELDS.items():
            bodies = [*ODD, *({**WHOLE.get(url, {}), field: odd} for field in fields.split() for odd in ODD)]
            for body in bodies:
                answer = await api.send(method, url, body)
                if answer.status not in {200, 201, 404, 409, 422} and answer.code != "clickhouse_unavailable":
                    wrong.append((method, url, msgspec.json.encode(body), answer.status))
                if answer.status == 201 and url.endswith("/versions"):
                    published = await api.send("POST", f"{url}/{answer.body['version']}/publish", {})
                    if published.status not in {200, 422}:
                        wrong.append(("POST", "publish", msgspec.json.encode(body), published.status))
        assert wrong == []
