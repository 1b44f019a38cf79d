"""Whatever is sent to subscriptions: it is refused by a code of ours, or taken; never a bug of ours."""

from itertools import count
from typing import Any

import msgspec

from tests.support.catalog_api import CatalogApi, catalog_api

HUGE = 10**40
FEE = {"key": "seats", "price": {"model": "per_unit", "unit_amount": "1e20"}, "quantity": "1"}
ODD: tuple[Any, ...] = (
    None,
    [],
    "text",
    "",
    "\x00",
    HUGE,
    -1,
    0,
    1,
    True,
    "now",
    "period_end",
    "0001-01-01T00:00:00Z",
    "0001-01-01T00:00:00+23:59",
    "9999-12-31T23:59:59-23:59",
    "2026-01-01T00:00:00",
    "2026-01-01T00:00:00.5Z",
    "2001-01-01T00:00:00Z",
    "2099-12-31T23:59:59Z",
    "2100-01-01T00:00:00Z",
    {"unknown": 1},
    {"seats": "NaN"},
    {"seats": "1e999999"},
    {"seats": HUGE},
    {"seats": "99999999999999999999999999.999999999999"},
    {"storage": HUGE},
    {"storage": 1_000_000},
    {"\x00": 1},
)
FIELDS = {
    "": "customer plan start_at billing timezone trial_end_at quantities",
    "/cancel": "when undo reason",
    "/pause": "when resumes_at reason",
    "/resume": "when reason",
    "/change": "plan plan_version quantities addons trial_end_at withdraw when reason",
    "/change/preview": "plan plan_version quantities addons trial_end_at withdraw when reason",
}
WHOLE: dict[str, dict[str, Any]] = {
    "": {"customer": "acme", "plan": "pro"},
    "/change": {"quantities": {"seats": "2"}},
    "/change/preview": {"quantities": {"seats": "2"}},
}
numbers = count(1)


async def subscribed(api: CatalogApi) -> str:
    number = next(numbers)
    await api.made("/v1/customers", {"external_id": f"customer-{number}"})
    made = await api.made("/v1/subscriptions", {"customer": f"customer-{number}", "plan": "pro"})
    return str(made["id"])


async def test_no_body_is_answered_with_a_bug_of_ours(postgres_url: str) -> None:
    async with catalog_api(postgres_url, "test_subscription_odd_bodies") as api:
        await api.made("/v1/plans", {"key": "pro", "currency": "EUR", "prices": [FEE]})
        card = {"price": {"key": "space", "price": {"model": "flat", "amount": "1e20"}}, "cadence": {"unit": "month"}}
        await api.made("/v1/addons", {"key": "storage", "currency": "EUR", "max_quantity": None, "rate_cards": [card]})
        await api.made("/v1/customers", {"external_id": "acme"})
        wrong: list[tuple[str, bytes, int]] = []
        for path, fields in FIELDS.items():
            subscription_id = await subscribed(api)
            bodies = [*ODD, *({**WHOLE.get(path, {}), field: odd} for field in fields.split() for odd in ODD)]
            for body in bodies:
                url = "/v1/subscriptions" if not path else f"/v1/subscriptions/{subscription_id}{path}"
                answer = await api.send("POST", url, body)
                if answer.status not in {200, 201, 404, 409, 422}:
                    wrong.append((path, msgspec.json.encode(body), answer.status))
                changed = answer.status == 200 and path != "/change/preview"
                if changed or answer.status == 201:
                    name = answer.body["id"]
                    told = [await api.send("GET", f"/v1/subscriptions/{name}{part}") for part in ("", "/history")]
                    wrong += [(path, msgspec.json.encode(body), one.status) for one in told if one.status != 200]
                    subscription_id = await subscribed(api)
        assert wrong == []
