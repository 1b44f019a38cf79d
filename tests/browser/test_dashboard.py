"""The dashboard in a real browser, against the running system."""

import uuid
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import urlsplit

import httpx
import pytest

from runtime.clock import SystemClock
from tests.browser.chromium import Page, chromium
from tests.support.waiting import eventually

SHOWN_WITHIN_S = 15
MOVED_WITHIN_S = 20
TOTAL = "[data-testid=total]"
LIVE = ".currency [data-link=live]"


class System(Protocol):
    """The running system, as tests see it: its address, a key, and a client that sends the key."""

    base_url: str
    api_key: str
    http: httpx.Client


@pytest.fixture
def page() -> Iterator[Page]:
    with chromium() as opened:
        opened.look(width=1280, height=900)
        yield opened


@pytest.fixture
def meter(system: System) -> str:
    """The key of a new meter: the sum of `tokens`, by `model`."""
    key = f"tokens_{uuid.uuid4().hex[:8]}"
    spec = {
        "key": key,
        "event_types": [f"request.{key}"],
        "aggregation": "sum",
        "value_property": "tokens",
        "dimensions": ["model"],
    }
    _post(system, "/v1/meters", spec)
    return key


@pytest.fixture
def customer(system: System) -> str:
    """What events call a new customer."""
    reference = f"acme-{uuid.uuid4().hex[:8]}"
    _post(system, "/v1/customers", {"external_id": reference, "name": "Acme & Sons"})
    return reference


def _post(system: System, path: str, body: Any) -> Any:
    answer = system.http.post(f"{system.base_url}{path}", json=body, headers={"Idempotency-Key": uuid.uuid4().hex})
    assert answer.is_success, f"{path}: {answer.status_code} {answer.text}"
    return answer.json()


def _send(system: System, meter: str, customer: str, **tokens: str) -> None:
    """One event a model, now."""
    now = SystemClock().now().isoformat(timespec="milliseconds").replace("+00:00", "Z")
    events = [
        {
            "id": uuid.uuid4().hex,
            "source": "browser-test",
            "type": f"request.{meter}",
            "customer": customer,
            "time": now,
            "properties": {"tokens": value, "model": model},
        }
        for model, value in tokens.items()
    ]
    assert _post(system, "/v1/events", events)["accepted"] == len(events)


def _enter(page: Page, key: str) -> None:
    eventually(lambda: page.text("label[for=api-key]"), SHOWN_WITHIN_S)
    page.type("#api-key", key)
    page.press("Enter")


def _follow(page: Page, meter: str, customer: str) -> None:
    """Choose a meter and a customer with the page's own controls."""
    eventually(lambda: meter in page.options("[data-testid=meter]"), SHOWN_WITHIN_S)
    page.choose("[data-testid=meter]", meter)
    page.type("[data-testid=customer]", customer)
    eventually(lambda: customer in (page.text("[role=listbox]") or ""), SHOWN_WITHIN_S)
    page.press("ArrowDown")
    page.press("Enter")
    try:
        eventually(lambda: page.text(LIVE), SHOWN_WITHIN_S)
    except AssertionError as error:
        raise AssertionError(f"{error}; the page says {page.text('body')!r}, errors {page.errors}") from error


def _shows(page: Page, total: str) -> bool:
    return Decimal(page.attribute(TOTAL, "data-value") or "-1") == Decimal(total)


def test_a_page_without_a_key_asks_for_one_and_a_wrong_key_is_told_the_next_step(system: System, page: Page) -> None:
    page.open(f"{system.base_url}/dashboard")
    _enter(page, "no-such-key")
    sentence = eventually(lambda: page.text("[role=alert]"), SHOWN_WITHIN_S) or ""
    assert "not accepted" in sentence
    assert "meterstream key create" in sentence
    assert page.evaluate("sessionStorage.length") == 0
    assert not [url for url in page.requests if "no-such-key" in url]


def test_usage_moves_to_the_exact_total_without_a_reload(
    system: System, page: Page, meter: str, customer: str, tmp_path: Path
) -> None:
    _send(system, meter, customer, large="9007199254740993", small="0.000001")
    page.open(f"{system.base_url}/dashboard")
    _enter(page, system.api_key)
    _follow(page, meter, customer)
    eventually(lambda: _shows(page, "9007199254740993.000001"), MOVED_WITHIN_S)
    assert page.text(TOTAL) == "9,007,199,254,740,993.000001"

    page.evaluate("window.notReloaded = true")
    _send(system, meter, customer, large="6.5", small="0.25")
    eventually(lambda: _shows(page, "9007199254740999.750001"), MOVED_WITHIN_S)
    assert page.evaluate("window.notReloaded") is True

    page.choose("[data-testid=group-by]", "model")
    eventually(lambda: "9,007,199,254,740,999.5" in (page.text("table.groups") or ""), MOVED_WITHIN_S)
    _send(system, meter, customer, medium="4")
    eventually(lambda: "medium" in (page.text("table.groups") or ""), MOVED_WITHIN_S)
    _photograph(page, tmp_path)
    _nothing_left_the_origin(page, system)
    assert page.errors == []


def test_the_rate_and_the_freshness_of_the_whole_system_are_live(
    system: System, page: Page, meter: str, customer: str
) -> None:
    page.open(f"{system.base_url}/dashboard")
    _enter(page, system.api_key)
    eventually(lambda: page.text("header [data-link=live]"), SHOWN_WITHIN_S)
    before = eventually(lambda: _accepted(page), SHOWN_WITHIN_S)
    _send(system, meter, customer, large="1", small="2")
    eventually(lambda: _accepted(page) >= before + 2, MOVED_WITHIN_S)
    eventually(lambda: (page.text("[data-testid=freshness]") or "\u2014") != "\u2014", SHOWN_WITHIN_S)
    assert page.errors == []


def _accepted(page: Page) -> int:
    text = page.text("[data-testid=count-accepted]") or ""
    assert text.replace(",", "").isdigit(), text
    return int(text.replace(",", ""))


def test_while_the_api_is_away_the_page_says_so_and_comes_back_by_itself(
    system: System, page: Page, meter: str, customer: str
) -> None:
    _send(system, meter, customer, large="7")
    page.open(f"{system.base_url}/dashboard#meter={meter}&customer={customer}")
    _enter(page, system.api_key)
    eventually(lambda: _shows(page, "7"), MOVED_WITHIN_S)
    page.block("*/v1/*")
    page.evaluate("location.reload()")
    eventually(lambda: "API away" in (page.text("header [data-link=waiting]") or ""), SHOWN_WITHIN_S)
    eventually(lambda: "does not answer" in (page.text("[role=alert]") or ""), SHOWN_WITHIN_S)
    page.block()
    eventually(lambda: page.text("header [data-link=live]"), MOVED_WITHIN_S)
    eventually(lambda: _shows(page, "7"), MOVED_WITHIN_S)


def _nothing_left_the_origin(page: Page, system: System) -> None:
    """And the key was in no address; and the policy that forbids it is there."""
    origin = urlsplit(system.base_url)[:2]
    assert page.requests
    assert {urlsplit(url)[:2] for url in page.requests} == {origin}
    assert not [url for url in page.requests if system.api_key in url]
    document = next(one for one in page.responses if one["mimeType"] == "text/html")
    policy = {name.lower(): value for name, value in document["headers"].items()}["content-security-policy"]
    assert "default-src 'self'" in policy


def _photograph(page: Page, directory: Path) -> None:
    """For people to look at: desktop and phone, light and dark."""
    for name, width, height in (("desktop", 1280, 1000), ("phone", 390, 844)):
        for dark in (False, True):
            page.look(width=width, height=height, dark=dark)
            # On no screen is the page wider than its window.
            eventually(lambda: page.evaluate("document.documentElement.scrollWidth <= innerWidth"), SHOWN_WITHIN_S)
            path = directory / f"{name}-{'dark' if dark else 'light'}.png"
            page.screenshot(path)
            assert path.stat().st_size > 10_000
