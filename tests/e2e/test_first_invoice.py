"""A newcomer's way from an own meter to the first invoice, and what wrong inputs get along it."""

import gzip
import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import httpx
import pandas as pd
import pytest

from runtime.clock import SystemClock
from tests.support.system import System
from tests.support.waiting import eventually

VISIBLE_WITHIN_S = 30
CHECKED_WITHIN_S = 30
CLOSED_WITHIN_S = 60
REVOKED_WITHIN_S = 10
JSON = {"Content-Type": "application/json"}

TOKENS = {
    "key": "tokens",
    "event_types": ["completion"],
    "aggregation": "sum",
    "value_property": "usage.tokens",
    "dimensions": ["model"],
}
REQUESTS = {"key": "requests", "event_types": ["completion"], "aggregation": "count"}
PLAN = {
    "key": "starter",
    "name": "Starter",
    "currency": "USD",
    "prices": [
        {"key": "fee", "price": {"model": "flat", "amount": "49.00"}},
        {
            "key": "tokens",
            "meter": "tokens",
            "price": {
                "model": "graduated",
                "tiers": [{"up_to": "1000", "unit_amount": "0.01"}, {"unit_amount": "0.0055"}],
            },
        },
        {
            "key": "requests",
            "meter": "requests",
            "price": {"model": "package", "amount": "5", "package_size": "2", "free_units": "1"},
        },
    ],
    "entitlements": [
        {"type": "metered", "feature": "tokens", "limit": "5000", "usage_period": "billing_period"},
        {"type": "boolean", "feature": "support"},
    ],
}


class Months:
    """Two billing months that are over, and the one that runs."""

    def __init__(self, now: datetime) -> None:
        self.now = now
        this = pd.Timestamp(year=now.year, month=now.month, day=1, tz=UTC)
        self.first, self.second, self.third = (
            (this - pd.DateOffset(months=back)).to_pydatetime() for back in (2, 1, 0)
        )


@pytest.fixture(scope="module")
def months() -> Months:
    return Months(SystemClock().now())


@pytest.fixture(scope="module")
def shop(system: System) -> Iterator[httpx.Client]:
    """The product that a newcomer sells: a tenant with two meters, two features and a plan."""
    with system.client(system.new_key("newcomer")) as client:
        _made(client.patch("/v1/settings", json={"max_event_age_s": 100 * 86_400}))
        for path, spec in (
            ("/v1/meters", TOKENS),
            ("/v1/meters", REQUESTS),
            ("/v1/features", {"key": "tokens", "kind": "metered", "meter": "tokens"}),
            ("/v1/features", {"key": "support", "kind": "boolean"}),
            ("/v1/plans", PLAN),
        ):
            _made(client.post(path, json=spec))
        yield client


@pytest.fixture(scope="module")
def stranger(system: System) -> Iterator[httpx.Client]:
    """Somebody with every right in another tenant."""
    with system.client(system.new_key("stranger")) as client:
        yield client


def _made(answer: httpx.Response) -> Any:
    assert answer.is_success, f"{answer.request.url.path}: {answer.status_code} {answer.text}"
    return answer.json()


def _refused(answer: httpx.Response, status: int, code: str) -> None:
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"].startswith("application/problem+json")
    assert answer.json()["code"] == code


def _at(instant: datetime) -> str:
    return instant.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _event(number: int, tokens: object, at: datetime, customer: str = "acme", model: str = "large") -> dict[str, Any]:
    properties = {"usage": {"tokens": tokens}, "model": model}
    named = {"id": f"call-{number}", "source": "gateway", "type": "completion", "customer": customer}
    return {**named, "time": _at(at), "properties": properties}


def _cloud_event(number: int, tokens: object, at: datetime) -> dict[str, Any]:
    plain = _event(number, tokens, at)
    kept = {name: plain[name] for name in ("id", "source", "type", "time")}
    return {"specversion": "1.0", **kept, "subject": "acme", "traceparent": "ignored", "data": plain["properties"]}


def _send(client: httpx.Client, body: object, media_type: str = "application/json", encoding: str = "") -> Any:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    headers = {"Content-Type": media_type}
    if encoding:
        headers["Content-Encoding"] = encoding
    answer = client.post("/v1/events", content=content, headers=headers)
    assert answer.status_code == 202, answer.text
    return answer.json()


def _send_in_every_form(client: httpx.Client, months: Months) -> None:
    """1600.5 tokens in two requests of the first month, 1000 in five of the second."""
    day, first, second = timedelta(days=1), months.first, months.second
    assert _send(client, _event(1, "1500.5", first + 9 * day)) == {"accepted": 1, "rejected": []}
    # A billing month is half-open: its last millisecond is in it, the first instant of the next one is not.
    edges = [_event(2, 100, second - timedelta(milliseconds=1), model="small"), _event(3, 7, second)]
    assert _send(client, edges)["accepted"] == 2
    lines = [_event(4, "300", second + day, customer="acme-old"), _event(5, 200.25, second + 2 * day)]
    assert _send(client, "\n".join(map(json.dumps, lines)).encode(), "application/x-ndjson")["accepted"] == 2
    structured = _cloud_event(6, 400, second + 3 * day)
    assert _send(client, structured, "application/cloudevents+json")["accepted"] == 1
    batch = gzip.compress(json.dumps([_cloud_event(7, "92.75", second + 4 * day)]).encode())
    assert _send(client, batch, "application/cloudevents-batch+json", "gzip")["accepted"] == 1
    # The same again counts nothing.
    assert _send(client, edges)["accepted"] == 2


def _usage(client: httpx.Client, meter: str, start: datetime, end: datetime, **more: str) -> Any:
    query = {"meter": meter, "customer": "acme", "from": _at(start), "to": _at(end), **more}
    return _made(client.get("/v1/usage", params=query))


def _check(client: httpx.Client, feature: str, quantity: str = "0", customer: str = "acme") -> Any:
    return _made(client.post("/v1/check", json={"customer": customer, "feature": feature, "quantity": quantity}))


def _has_used(client: httpx.Client, tokens: str) -> Any:
    answer = _check(client, "tokens")
    assert answer["usage"] is not None, answer
    assert Decimal(answer["usage"]) == Decimal(tokens)
    return answer


def test_a_newcomer_gets_from_a_meter_to_exact_invoices(system: System, shop: httpx.Client, months: Months) -> None:
    with system.closing_paused():
        customer = _made(shop.post("/v1/customers", json={"external_id": "acme", "aliases": ["acme-old"]}))
        held = {"customer": "acme", "plan": "starter", "start_at": _at(months.first)}
        subscription = _made(shop.post("/v1/subscriptions", json=held, headers={"Idempotency-Key": "sub-acme"}))
        assert subscription["customer_id"] == customer["id"]
        _send_in_every_form(shop, months)
        _usage_is_exact(shop, months)
        _allowed_until_the_limit(shop, months)
    _invoices_are_exact(shop, months, customer["id"], subscription["id"])


def _usage_is_exact(shop: httpx.Client, months: Months) -> None:
    def visible() -> bool:
        return Decimal(_usage(shop, "requests", months.first, months.third)["total"]) == 7

    eventually(visible, VISIBLE_WITHIN_S)
    by_model = _usage(shop, "tokens", months.first, months.second, group_by="model")
    assert Decimal(by_model["total"]) == Decimal("1600.5")
    values = {item["dimensions"]["model"]: Decimal(item["value"]) for item in by_model["items"]}
    assert values == {"large": Decimal("1500.5"), "small": Decimal(100)}
    monthly = _usage(shop, "tokens", months.first, months.third, window="month")
    assert [Decimal(item["value"]) for item in monthly["items"]] == [Decimal("1600.5"), Decimal(1000)]
    assert Decimal(monthly["total"]) == Decimal("2600.5")
    assert monthly["as_of"]


def _allowed_until_the_limit(shop: httpx.Client, months: Months) -> None:
    """5,000 tokens a billing month: what was used in the months before is not part of it."""
    fresh = eventually(lambda: _has_used(shop, "0"), CHECKED_WITHIN_S)
    assert (fresh["allowed"], fresh["reason"]) == (True, "within_limit")
    assert (Decimal(fresh["limit"]), Decimal(fresh["balance"])) == (Decimal(5000), Decimal(5000))
    assert datetime.fromisoformat(fresh["resets_at"]) == (pd.Timestamp(months.third) + pd.DateOffset(months=1))
    assert _check(shop, "tokens", "5000")["allowed"] is True
    assert _check(shop, "tokens", "5000.000001")["reason"] == "limit_exceeded"
    assert _check(shop, "support")["reason"] == "enabled"

    _send(shop, [_event(8, "4999", months.now)])
    almost = eventually(lambda: _has_used(shop, "4999"), CHECKED_WITHIN_S)
    assert (almost["allowed"], Decimal(almost["balance"])) == (True, Decimal(1))
    assert _check(shop, "tokens", "1")["allowed"] is True
    assert _check(shop, "tokens", "1.5")["allowed"] is False

    _send(shop, [_event(9, "1", months.now)])
    spent = eventually(lambda: _has_used(shop, "5000"), CHECKED_WITHIN_S)
    assert (spent["allowed"], spent["reason"], Decimal(spent["balance"])) == (False, "limit_exceeded", Decimal(0))
    assert spent["stale"] is False


def _invoices_are_exact(shop: httpx.Client, months: Months, customer: str, subscription: str) -> None:
    """By hand: 10 + 600.5 x 0.0055 = 13.30275 and one package; then 1000 x 0.01 and two packages (one request is free)."""

    def closed() -> list[Any]:
        found: list[Any] = _made(shop.get("/v1/invoices"))["items"]
        return found if len(found) >= 2 else []

    listed = eventually(closed, CLOSED_WITHIN_S)
    invoices = sorted((_made(shop.get(f"/v1/invoices/{one['id']}")) for one in listed), key=_period_start)
    assert [_period_start(one) for one in invoices] == [months.first, months.second]
    assert [datetime.fromisoformat(one["period_end"]) for one in invoices] == [months.second, months.third]
    amounts = [{line["price_key"]: Decimal(line["amount"]) for line in one["lines"]} for one in invoices]
    assert amounts == [
        {"fee": Decimal("49.00"), "tokens": Decimal("13.30"), "requests": Decimal(5)},
        {"fee": Decimal("49.00"), "tokens": Decimal("10.00"), "requests": Decimal(10)},
    ]
    assert [Decimal(one["total"]) for one in invoices] == [Decimal("67.30"), Decimal("69.00")]
    quantities = {line["price_key"]: Decimal(line["quantity"]) for line in invoices[0]["lines"]}
    assert quantities["tokens"] == Decimal("1600.5")
    exact = {line["price_key"]: Decimal(line["exact_amount"]) for line in invoices[0]["lines"]}
    assert exact["tokens"] == Decimal("13.30275")
    assert {(one["customer_id"], one["subscription_id"], one["currency"]) for one in invoices} == {
        (customer, subscription, "USD")
    }


def _period_start(invoice: Any) -> datetime:
    return datetime.fromisoformat(invoice["period_start"])


def test_what_another_tenant_has_does_not_exist(shop: httpx.Client, stranger: httpx.Client) -> None:
    customer = _made(shop.post("/v1/customers", json={"external_id": "hidden"}))
    meter = _made(shop.get("/v1/meters/tokens"))
    for path in (
        f"/v1/customers/{customer['id']}",
        "/v1/customers/hidden",
        f"/v1/meters/{meter['id']}",
        "/v1/meters/tokens",
        "/v1/features/tokens",
        "/v1/plans/starter",
        "/v1/usage?meter=tokens",
        "/v1/events/lookup?source=gateway&id=call-1",
    ):
        assert stranger.get(path).status_code == 404, path
    for invoice in _made(shop.get("/v1/invoices"))["items"]:
        assert stranger.get(f"/v1/invoices/{invoice['id']}").status_code == 404
    for path in ("/v1/customers", "/v1/meters", "/v1/plans", "/v1/subscriptions", "/v1/invoices"):
        assert _made(stranger.get(path))["items"] == []
    held = {"customer": "hidden", "plan": "starter"}
    assert stranger.post("/v1/subscriptions", json=held).status_code == 404
    assert stranger.post("/v1/check", json={"customer": "hidden", "feature": "tokens"}).status_code == 404
    assert stranger.patch(f"/v1/customers/{customer['id']}", json={"name": "mine"}).status_code == 404
    assert _made(shop.get("/v1/customers/hidden"))["name"] == ""


def test_a_key_does_what_its_scopes_say_until_it_is_revoked(system: System) -> None:
    made = json.loads(system.run("key", "create", "--tenant", "newcomer", "--scopes", "events:write", "--json"))
    with system.client(made["key"]) as client:
        assert _send(client, {"id": "k1", "type": "ping", "customer": "nobody"})["accepted"] == 1
        _refused(client.get("/v1/usage", params={"meter": "tokens"}), 403, "scope_missing")
        _refused(client.post("/v1/customers", json={"external_id": "x"}), 403, "scope_missing")
        system.run("key", "revoke", made["id"])
        eventually(lambda: client.post("/v1/events", json=[]).status_code == 401, REVOKED_WITHIN_S)
        _refused(client.post("/v1/events", json={"id": "k2", "type": "ping", "customer": "n"}), 401, "unauthorized")
    _refused(httpx.get(f"{system.base_url}/v1/meters"), 401, "unauthorized")


def test_a_repeated_request_is_answered_as_the_first_one_was(shop: httpx.Client) -> None:
    key = {"Idempotency-Key": "customer-once"}
    first = shop.post("/v1/customers", json={"external_id": "once"}, headers=key)
    again = shop.post("/v1/customers", json={"external_id": "once"}, headers=key)
    assert (again.status_code, again.json()) == (201, _made(first))
    other = shop.post("/v1/customers", json={"external_id": "twice"}, headers=key)
    _refused(other, 422, "idempotency_key_reused")
    assert shop.get("/v1/customers/twice").status_code == 404
    assert shop.post("/v1/customers", json={"external_id": "once"}).status_code == 409


def test_a_change_of_what_somebody_else_has_changed_is_refused(shop: httpx.Client) -> None:
    _made(shop.post("/v1/customers", json={"external_id": "edited"}))
    read = shop.get("/v1/customers/edited").headers["etag"]
    changed = shop.patch("/v1/customers/edited", json={"name": "first"}, headers={"If-Match": read})
    assert _made(changed)["name"] == "first"
    _refused(
        shop.patch("/v1/customers/edited", json={"name": "second"}, headers={"If-Match": read}),
        412,
        "precondition_failed",
    )
    kept = _made(shop.get("/v1/customers/edited"))
    assert (kept["name"], kept["aliases"]) == ("first", [])


def test_the_good_events_of_a_request_are_kept_and_each_bad_one_is_named(shop: httpx.Client, months: Months) -> None:
    old = _event(101, 1, months.now - timedelta(days=101), customer="edge")
    ahead = _event(102, 1, months.now + timedelta(hours=2), customer="edge")
    unknown = {**_event(103, 1, months.now, customer="edge"), "colour": "red"}
    answer = _send(shop, [old, _event(104, 1, months.now, customer="edge"), ahead, unknown])
    assert answer["accepted"] == 1
    assert [(one["index"], one["code"]) for one in answer["rejected"]] == [
        (0, "event_too_old"),
        (2, "event_in_future"),
        (3, "unknown_field"),
    ]
    refused = shop.post("/v1/events", json=[old])
    assert (refused.status_code, refused.json()["accepted"]) == (422, 0)
    _refused(shop.post("/v1/events", content=b'{"id": ', headers=JSON), 422, "malformed_json")
    _refused(
        shop.post("/v1/events", content=b"id,type", headers={"Content-Type": "text/csv"}), 415, "unsupported_media_type"
    )
    _refused(
        shop.post("/v1/subscriptions", json={"customer": "nobody-known", "plan": "starter"}), 404, "customer_not_found"
    )
    _refused(shop.get("/v1/usage", params={"meter": "no-such-meter"}), 404, "meter_not_found")


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("POST", "/v1/customers", {"name": "a\x00b"}),
        ("POST", "/v1/customers", {"attributes": {"note": "\x00"}}),
        ("GET", "/v1/customers/%00", None),
        ("GET", "/v1/meters?cursor=%00", None),
        ("GET", "/v1/usage?meter=%00", None),
        ("GET", "/v1/invoices?customer=%00", None),
    ],
)
def test_text_that_cannot_be_kept_is_refused_by_its_code(
    system: System, method: str, path: str, body: dict[str, Any] | None
) -> None:
    answer = system.http.request(method, path, json=body)
    assert (answer.status_code, answer.json()["code"]) == (422, "nul_character")
