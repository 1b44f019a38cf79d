"""An invoice comes to the same cent whatever arrives later; and what an operator asks of the whole system."""

import asyncio
import json
from collections.abc import Coroutine, Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any, TypeVar

import httpx
import msgspec
import pandas as pd
import pytest

from cli import reconcile, status
from runtime.clock import SystemClock
from runtime.settings import Settings, load_settings
from schemas.contracts import CounterState, CustomerContract, EntitlementsState
from schemas.reconciliation import ReconcileReport
from schemas.topics import ENTITLEMENTS_STATE
from stores.clickhouse.client import ClickhouseClient
from stores.kafka import Producer
from tests.support.system import System
from tests.support.waiting import eventually

T = TypeVar("T")

SETTLED_WITHIN_S = 30
CLOSED_WITHIN_S = 60
EVENTS = 200


@pytest.fixture(scope="module")
def shop(system: System) -> Iterator[httpx.Client]:
    """A tenant that bills calls, their tokens and its users, of which any may come late."""
    with system.client(system.new_key("traveller")) as client:
        _made(client.patch("/v1/settings", json={"max_event_age_s": 100 * 86_400}))
        meters = (("calls", "count", None), ("tokens", "sum", "tokens"), ("users", "unique_count", "user"))
        for key, aggregation, read in meters:
            spec = {"key": key, "event_types": ["call"], "aggregation": aggregation, "value_property": read}
            _made(client.post("/v1/meters", json={name: each for name, each in spec.items() if each is not None}))
        _made(client.post("/v1/features", json={"key": "calls", "kind": "metered", "meter": "calls"}))
        prices = [
            {"key": key, "meter": key, "price": {"model": "per_unit", "unit_amount": "0.07"}} for key, _, _ in meters
        ]
        plan = {
            "key": "metered",
            "currency": "EUR",
            "prices": prices,
            "entitlements": [{"type": "metered", "feature": "calls", "limit": "100000"}],
        }
        _made(client.post("/v1/plans", json=plan))
        yield client


def _made(answer: httpx.Response) -> Any:
    assert answer.is_success, f"{answer.request.url.path}: {answer.status_code} {answer.text}"
    return answer.json()


def _month(now: datetime) -> tuple[datetime, datetime]:
    """The billing month that is over."""
    this = pd.Timestamp(year=now.year, month=now.month, day=1, tz=UTC)
    return (this - pd.DateOffset(months=1)).to_pydatetime(), this.to_pydatetime()


def _calls(first: int, count: int, start: datetime) -> list[dict[str, Any]]:
    return [
        {
            "id": f"call-{number}",
            "type": "call",
            "customer": "acme",
            "time": (start + timedelta(seconds=37.5 * (number + 1))).isoformat(),
            "properties": {"tokens": f"{number}.25", "user": f"user-{number % 17}"},
        }
        for number in range(first, first + count)
    ]


def _send(client: httpx.Client, events: list[dict[str, Any]]) -> None:
    assert _made(client.post("/v1/events", json=events)) == {"accepted": len(events), "rejected": []}


def _used(client: httpx.Client, meter: str, start: datetime, end: datetime, **at: int) -> Decimal:
    asked: dict[str, str | int] = {"meter": meter, "customer": "acme", "from": start.isoformat(), "to": end.isoformat()}
    return Decimal(_made(client.get("/v1/usage", params={**asked, **at}))["total"])


def test_an_invoice_comes_to_the_same_cent_after_two_replays_and_late_events(
    system: System, shop: httpx.Client
) -> None:
    now = SystemClock().now()
    start, end = _month(now)
    events = _calls(0, EVENTS, start)
    with system.closing_paused():
        _made(shop.post("/v1/customers", json={"external_id": "acme"}))
        _made(
            shop.post("/v1/subscriptions", json={"customer": "acme", "plan": "metered", "start_at": start.isoformat()})
        )
        _send(shop, events)
        eventually(lambda: _used(shop, "calls", start, end) == EVENTS, SETTLED_WITHIN_S)
    [invoice] = eventually(lambda: _made(shop.get("/v1/invoices"))["items"], CLOSED_WITHIN_S)
    billed = {meter: _used(shop, meter, start, end) for meter in ("calls", "tokens", "users")}

    _send(shop, events)
    _send(shop, events[::-1])
    _send(shop, _calls(EVENTS, 50, start))
    running = {**_calls(EVENTS + 50, 1, start)[0], "time": now.isoformat()}
    _send(shop, [running])
    eventually(lambda: _used(shop, "calls", start, end) == EVENTS + 50, SETTLED_WITHIN_S)
    cut = _made(shop.post("/v1/cuts"))
    assert cut["cut"] > invoice["cut"]
    assert _used(shop, "tokens", start, end) > billed["tokens"]

    again = _made(shop.get(f"/v1/invoices/{invoice['id']}/recompute"))
    assert (again["same"], again["cut"]) == (True, invoice["cut"]), again
    assert again["total"] == {"billed": invoice["total"], "windows": invoice["total"], "events": invoice["total"]}
    for line, known in zip(again["lines"], invoice["lines"], strict=True):
        expected = {name: known[name] for name in ("quantity", "exact_amount", "amount")}
        assert line["billed"] == line["windows"] == line["events"] == expected
    for meter, quantity in billed.items():
        assert _used(shop, meter, start, end, at=invoice["cut"]) == quantity
        assert _used(shop, meter, start, end, at=cut["cut"]) == _used(shop, meter, start, end)


def _settings(system: System) -> Settings:
    environment = system.local._environment("command", system.address.endpoints, 0)
    return load_settings({name: text for name, text in environment.items() if name.startswith("METERSTREAM_")})


def _run(work: Coroutine[Any, Any, T]) -> T:
    return asyncio.run(work)


def _reconciled(system: System) -> ReconcileReport:
    now = SystemClock().now()
    return _run(reconcile.run(_settings(system), now - timedelta(days=70), now + timedelta(hours=1)))


def test_a_running_system_is_healthy_and_says_how_far_it_is(system: System, shop: httpx.Client) -> None:
    def healthy() -> bool:
        return not _run(status.read(_settings(system), timedelta(seconds=60), 5_000)).problems

    eventually(healthy, SETTLED_WITHIN_S)
    found = json.loads(system.run("status", "--json"))
    assert found["problems"] == []
    assert [part["partition"] for part in found["partitions"]] == list(range(len(found["partitions"])))
    assert all(part["epoch"] > 0 and part["lag"] is not None for part in found["partitions"])
    assert all(share["lag"] is not None for share in found["balances"])
    assert found["cut"]["cut"] >= _made(shop.get("/v1/cuts?limit=1&to=2100-01-01T00:00:00Z"))["items"][0]["cut"] - 1
    assert "healthy" in system.run("status", "--balances")


def test_a_partition_that_nobody_reads_makes_it_unhealthy(system: System) -> None:
    found = _run(status.read(_settings(system), timedelta(seconds=-60), 5_000))
    assert any("behind" in problem for problem in found.problems)
    shown = "\n".join(status.lines(found))
    assert "PROBLEM" in shown
    assert "healthy" not in shown


def test_everything_adds_up_until_a_row_is_lost_or_a_balance_is_wrong(system: System, shop: httpx.Client) -> None:
    def settled() -> ReconcileReport | None:
        found = _reconciled(system)
        return None if found.differences else found

    clean = eventually(settled, SETTLED_WITHIN_S)
    assert clean is not None
    assert clean.ledger.accepted == clean.ledger.stored + clean.ledger.duplicate + clean.ledger.rejected
    assert clean.ledger.stored > EVENTS
    assert clean.ledger.duplicate >= 2 * EVENTS
    assert clean.windows.meter_days > 0
    assert clean.balances.counters > 0
    assert "0 differences" in system.run("reconcile")

    asyncio.run(_plant(system))
    try:
        found = _reconciled(system)
        assert [(one.outcome, one.ledger - one.rows) for one in found.ledger.differences] == [("duplicate", 1)]
        assert {day.windows.matches - day.events.matches for day in found.windows.differences} == {-1}
        assert len(found.windows.differences) == 1
        [balance] = found.balances.differences
        assert (balance.customer_id, balance.balance, balance.usage) == ("cus_planted", Decimal(5), Decimal(0))
        assert found.differences == 3
        assert sum("DIFFERENCE" in line for line in reconcile.lines(found)) == 3
    finally:
        asyncio.run(_state(system, version=2, value=Decimal(0)))
    _made(shop.get("/v1/reconciliation"))


async def _plant(system: System) -> None:
    """One row less of duplicates and of windows, and a balance that no usage explains."""
    clickhouse = ClickhouseClient(_settings(system).clickhouse)
    one_duplicate = (
        "ALTER TABLE event_duplicates DELETE WHERE (partition, offset, `index`) IN (SELECT partition, offset, `index` "
        "FROM event_duplicates WHERE tenant = 'traveller' ORDER BY partition, offset, `index` LIMIT 1) "
        "SETTINGS mutations_sync = 2"
    )
    one_window = (
        "ALTER TABLE usage_windows DELETE WHERE tenant = 'traveller' AND matches = 1 AND (meter, minute, cut) IN ("
        "SELECT meter, minute, cut FROM usage_windows WHERE tenant = 'traveller' AND matches = 1 "
        "ORDER BY meter, minute LIMIT 1) SETTINGS mutations_sync = 2"
    )
    try:
        await clickhouse.command(one_duplicate)
        await clickhouse.command(one_window)
    finally:
        await clickhouse.close()
    await _state(system, version=1, value=Decimal(5))


async def _state(system: System, *, version: int, value: Decimal) -> None:
    now = SystemClock().now()
    contract = CustomerContract(
        version=1,
        tenant="nobody",
        environment="live",
        customer_id="cus_planted",
        references=["cus_planted"],
        entitlements=[],
    )
    counter = CounterState(
        meter_id="met_planted",
        generation=1,
        aggregation="sum",
        start_at=now.replace(minute=0, second=0, microsecond=0),
        end_at=now.replace(minute=0, second=0, microsecond=0) + timedelta(days=1),
        value=value,
    )
    state = EntitlementsState(version=(1, version), as_of_ms=1, contract=contract, counters=[counter])
    producer = Producer(_settings(system).kafka)
    await producer.start()
    try:
        key = b"nobody/live/cus_planted"
        await producer.send(ENTITLEMENTS_STATE, 0, value=msgspec.json.encode(state), key=key)
    finally:
        await producer.stop()
