"""Stopped and started again on the same directory, the system goes on where it was."""

import tempfile
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.support.system import System, running_system
from tests.support.waiting import eventually

VISIBLE_WITHIN_S = 30
METER = {"key": "pages", "event_types": ["print"], "aggregation": "sum", "value_property": "pages"}
FEATURE = {"key": "pages", "kind": "metered", "meter": "pages"}
PLAN = {
    "key": "office",
    "currency": "EUR",
    "prices": [{"key": "pages", "meter": "pages", "price": {"model": "per_unit", "unit_amount": "0.05"}}],
    "entitlements": [{"type": "metered", "feature": "pages", "limit": "100", "usage_period": "never"}],
}


def _made(answer: httpx.Response) -> Any:
    assert answer.is_success, f"{answer.request.url.path}: {answer.status_code} {answer.text}"
    return answer.json()


def _print(system: System, *pages: str) -> None:
    """One event a text: its id is its value, so the same text again is a copy."""
    named = {"source": "office", "type": "print", "customer": "acme"}
    events = [{"id": f"print-{value}", **named, "properties": {"pages": value}} for value in pages]
    assert _made(system.http.post("/v1/events", json=events))["accepted"] == len(pages)


def _printed(system: System) -> Decimal:
    return Decimal(_made(system.http.get("/v1/usage", params={"meter": "pages", "customer": "acme"}))["total"])


def _may_print(system: System, quantity: str, usage: str) -> bool:
    asked = {"customer": "acme", "feature": "pages", "quantity": quantity}
    answer = _made(system.http.post("/v1/check", json=asked))
    assert answer["usage"] is not None, answer
    assert Decimal(answer["usage"]) == Decimal(usage)
    return bool(answer["allowed"])


@pytest.fixture
def served_directory() -> Iterator[Path]:
    # Below 0755 directories: pytest's own temporary directories are private.
    with tempfile.TemporaryDirectory(prefix="meterstream-test-") as directory:
        yield Path(directory)


def test_a_restart_finds_everything_and_goes_on(served_directory: Path) -> None:
    with running_system(served_directory) as system:
        for path, spec in (("meters", METER), ("features", FEATURE), ("plans", PLAN)):
            _made(system.http.post(f"/v1/{path}", json=spec))
        customer = _made(system.http.post("/v1/customers", json={"external_id": "acme"}))
        held = _made(system.http.post("/v1/subscriptions", json={"customer": "acme", "plan": "office"}))
        _print(system, "12.5", "7.5")
        eventually(lambda: _printed(system) == 20, VISIBLE_WITHIN_S)
        eventually(lambda: _may_print(system, "80", usage="20"), VISIBLE_WITHIN_S)
        key, pids = system.api_key, system.pids()
    assert [name for name, pid in pids.items() if Path(f"/proc/{pid}").exists()] == []

    with running_system(served_directory) as system:
        assert system.api_key == key
        assert not system.address.key_is_new
        assert _made(system.http.get("/v1/customers/acme")) == customer
        assert _made(system.http.get(f"/v1/subscriptions/{held['id']}"))["plan_version_id"] == held["plan_version_id"]
        assert _printed(system) == 20
        eventually(lambda: _may_print(system, "80", usage="20"), VISIBLE_WITHIN_S)
        _print(system, "12.5", "30")  # the first is a copy from before the restart
        eventually(lambda: _printed(system) == 50, VISIBLE_WITHIN_S)
        eventually(lambda: not _may_print(system, "50.5", usage="50"), VISIBLE_WITHIN_S)
