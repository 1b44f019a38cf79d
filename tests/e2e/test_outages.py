"""A part is away while events come in: what is answered meanwhile, who waits and exits, and that every count is exact after.

Time-outs are short, so that an outage of seconds is one of minutes: workers use their budget up and start again.
"""

import contextlib
import itertools
import os
import signal
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import httpx
import pandas as pd
import pytest

from runtime.clock import SystemClock
from tests.support.system import System, running_system
from tests.support.waiting import eventually

SETTINGS = {
    "METERSTREAM_WORKER_RETRY_BUDGET_S": "4",
    "METERSTREAM_KAFKA_REQUEST_TIMEOUT_S": "3",
    "METERSTREAM_INGEST_INSERT_DEADLINE_S": "5",
    "METERSTREAM_CLICKHOUSE_QUERY_TIMEOUT_S": "3",
    "METERSTREAM_CLICKHOUSE_CONNECT_TIMEOUT_S": "1",
    "METERSTREAM_POSTGRES_STATEMENT_TIMEOUT_S": "3",
    "METERSTREAM_POSTGRES_CONNECT_TIMEOUT_S": "1",
    "METERSTREAM_API_STALE_AFTER_S": "4",
}
METER = {"key": "pages", "event_types": ["print"], "aggregation": "sum", "value_property": "pages"}
FEATURE = {"key": "pages", "kind": "metered", "meter": "pages"}
PLAN = {
    "key": "office",
    "currency": "EUR",
    "prices": [{"key": "pages", "meter": "pages", "price": {"model": "per_unit", "unit_amount": "0.05"}}],
    "entitlements": [{"type": "metered", "feature": "pages", "limit": None, "usage_period": "never"}],
}
EVENTS_A_REQUEST = 10
PAGES_AN_EVENT = Decimal("2.5")
HTTP_TIMEOUT_S = 30.0
PAUSE_S = 0.05
STARTED_WITHIN_S = 30.0
DEGRADED_WITHIN_S = 20.0
EXITED_WITHIN_S = 40.0
EXACT_WITHIN_S = 60.0


def _made(answer: httpx.Response) -> Any:
    assert answer.is_success, f"{answer.request.url.path}: {answer.status_code} {answer.text}"
    return answer.json()


class Shop:
    """A customer with a subscription, and everything that was ever sent for it."""

    def __init__(self, system: System) -> None:
        self.system = system
        self.http = system.http
        self.sent = 0
        self.others = 0
        self._numbers = itertools.count()

    def open(self) -> None:
        for path, spec in (("meters", METER), ("features", FEATURE), ("plans", PLAN)):
            _made(self.http.post(f"/v1/{path}", json=spec))
        _made(self.http.post("/v1/customers", json={"external_id": "acme"}))
        _made(self.http.post("/v1/subscriptions", json={"customer": "acme", "plan": "office"}))
        with self.sending():
            eventually(lambda: self.sent > EVENTS_A_REQUEST, STARTED_WITHIN_S)
        self.is_exact()

    @contextlib.contextmanager
    def sending(self) -> Iterator[None]:
        """Inside, requests come one after the other, each repeated until it is taken."""
        ended = threading.Event()
        failed: list[AssertionError] = []

        def send() -> None:
            with self.system.client(self.system.api_key) as client:
                while not ended.wait(PAUSE_S) and not failed:
                    try:
                        self._send(client)
                    except AssertionError as error:
                        failed.append(error)

        thread = threading.Thread(target=send, name="load")
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join()
        assert not failed, failed

    def _send(self, client: httpx.Client) -> None:
        named = {"source": "office", "type": "print", "customer": "acme", "properties": {"pages": str(PAGES_AN_EVENT)}}
        body = [{"id": f"print-{next(self._numbers)}", **named} for _ in range(EVENTS_A_REQUEST)]

        def taken() -> bool:
            answer = client.post("/v1/events", json=body)
            assert answer.status_code in {202, 503}, answer.text
            return answer.status_code == 202 and answer.json()["accepted"] == EVENTS_A_REQUEST

        eventually(taken, EXACT_WITHIN_S, every_s=PAUSE_S)
        self.sent += EVENTS_A_REQUEST

    def send_other(self) -> httpx.Response:
        """One event that nothing bills, the same each time."""
        return self.http.post("/v1/events", json={"id": "once", "source": "other", "type": "ping", "customer": "acme"})

    # --- what is answered ---

    def usage(self) -> httpx.Response:
        return self.http.get("/v1/usage", params={"meter": "pages", "customer": "acme"})

    def check(self, customer: str = "acme") -> httpx.Response:
        return self.http.post("/v1/check", json={"customer": customer, "feature": "pages", "quantity": "1"})

    def add_customer(self, name: str) -> httpx.Response:
        return self.http.post("/v1/customers", json={"external_id": name})

    def readiness(self) -> tuple[int, list[str], list[str]]:
        answer = self.http.get("/readyz")
        return answer.status_code, answer.json()["missing"], answer.json()["degraded"]

    # --- what must hold ---

    def takes_events(self) -> None:
        before = self.sent
        eventually(lambda: self.sent > before + 2 * EVENTS_A_REQUEST, EXACT_WITHIN_S)

    def checks_go_on_and_tell_their_age(self) -> None:
        known = _made(self.check())
        assert known["allowed"] is True
        eventually(lambda: _made(self.check())["stale"], EXITED_WITHIN_S)

    def is_exact(self) -> None:
        """Each event that was sent is counted once, in the usage, in the balance, and in the tables; and both say so."""
        pages, sent_by = self.sent * PAGES_AN_EVENT, SystemClock().now()

        def all_counted() -> bool:
            for answer, value in ((_made(self.usage()), "total"), (_made(self.check()), "usage")):
                assert Decimal(answer[value] or 0) == pages, answer
                assert datetime.fromisoformat(answer["as_of"]) >= sent_by, answer
            return True

        eventually(all_counted, EXACT_WITHIN_S, every_s=0.2)
        hours = _made(self.http.get("/v1/reconciliation"))
        assert hours["difference"] == 0
        assert sum(hour["stored"] for hour in hours["items"]) == self.sent + self.others


def _refused(answer: httpx.Response, code: str) -> None:
    assert (answer.status_code, answer.json()["code"]) == (503, code)
    assert int(answer.headers["retry-after"]) > 0


@pytest.fixture(scope="module")
def shop() -> Iterator[Shop]:
    with running_system(settings=SETTINGS) as system:
        opened = Shop(system)
        opened.open()
        yield opened


@contextlib.contextmanager
def away(system: System, part: str) -> Iterator[None]:
    """Inside, nobody answers in this part's place."""
    system.kill(part)
    try:
        yield
    finally:
        system.start_again(part)


@contextlib.contextmanager
def hanging(system: System, part: str) -> Iterator[None]:
    """Inside, connections to this part are taken and nothing is answered."""
    pid = system.pid(part)
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


@contextlib.contextmanager
def a_worker_exits_and_comes_back(system: System, name: str) -> Iterator[None]:
    """Inside or after, its budget is over: another process takes its place."""
    former = system.pid(name)
    yield
    eventually(lambda: system.pid(name) != former, EXITED_WITHIN_S)


def test_without_clickhouse_events_are_taken_and_checks_answered(shop: Shop) -> None:
    """It hangs; that it is killed is in test_kills.py."""
    with shop.sending():
        with hanging(shop.system, "clickhouse"), a_worker_exits_and_comes_back(shop.system, "worker-ingest"):
            eventually(lambda: shop.readiness() == (200, [], ["clickhouse"]), DEGRADED_WITHIN_S)
            shop.takes_events()
            _refused(shop.usage(), "clickhouse_unavailable")
            shop.checks_go_on_and_tell_their_age()
        shop.takes_events()
    shop.is_exact()


def test_without_postgres_known_keys_send_and_check_and_nothing_is_changed(shop: Shop) -> None:
    with shop.sending():
        with away(shop.system, "postgres"), a_worker_exits_and_comes_back(shop.system, "worker-ingest"):
            eventually(lambda: shop.readiness() == (200, [], ["postgres"]), DEGRADED_WITHIN_S)
            shop.takes_events()
            _refused(shop.add_customer("early"), "postgres_unavailable")
            with shop.system.client("ms_unknown_key") as stranger:
                _refused(stranger.get("/v1/usage", params={"meter": "pages"}), "postgres_unavailable")
            shop.checks_go_on_and_tell_their_age()
        shop.takes_events()
    shop.is_exact()
    with shop.system.client("ms_unknown_key") as stranger:
        assert stranger.get("/v1/usage", params={"meter": "pages"}).status_code == 401
    _made(shop.add_customer("early"))


def test_without_kafka_nothing_is_taken_and_all_that_is_known_is_answered(shop: Shop) -> None:
    with shop.sending():
        with away(shop.system, "kafka"), a_worker_exits_and_comes_back(shop.system, "worker-ingest"):
            eventually(lambda: shop.readiness() == (503, ["kafka"], []), DEGRADED_WITHIN_S)
            _refused(shop.send_other(), "kafka_unavailable")
            shop.checks_go_on_and_tell_their_age()
            _made(shop.usage())
            _made(shop.add_customer("made-meanwhile"))
            assert shop.check("made-meanwhile").status_code == 404
        shop.takes_events()
    # What was answered 503 may be in the log or not. Sent again it is counted once.
    _made(shop.send_other())
    shop.others = 1
    shop.is_exact()
    eventually(lambda: shop.check("made-meanwhile").status_code == 200, EXACT_WITHIN_S)


def test_without_temporal_nothing_is_closed_and_all_else_goes_on(shop: Shop) -> None:
    month_ago = pd.Timestamp(datetime.combine(SystemClock().now().date(), datetime.min.time(), UTC)) - pd.DateOffset(
        months=1
    )
    held = {"customer": "billed", "plan": "office", "start_at": month_ago.isoformat()}

    def invoices() -> list[Any]:
        found: list[Any] = _made(shop.http.get("/v1/invoices", params={"customer": "billed"}))["items"]
        return found

    _made(shop.add_customer("billed"))
    with shop.sending():
        with away(shop.system, "temporal"):
            _made(shop.http.post("/v1/subscriptions", json=held))
            shop.takes_events()
            _made(shop.usage())
            assert shop.readiness() == (200, [], [])
            assert invoices() == []
        eventually(invoices, EXACT_WITHIN_S)
    assert len(invoices()) == 1
    shop.is_exact()
