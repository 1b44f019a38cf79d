"""The running system's answers beside the truth: events, windows, balances, invoices, reconciliation, and the past."""

from datetime import datetime, timedelta
from decimal import Decimal
from itertools import pairwise
from typing import Any

import msgspec
from sqlalchemy import text

from demo.client import Client
from demo.verify import Differences
from domain.aggregates import EMPTY, value
from domain.events import decode_properties
from domain.pricing import rate
from runtime.settings import ClickhouseSettings, PostgresSettings, Secret
from schemas.meters import AggregateState
from schemas.prices import Price
from stores.clickhouse.client import ClickhouseClient
from stores.postgres.engine import autocommit, create_engine
from tests.chaos.contracts import FEATURES_OF, HOUR, METERS, PLANS, alias_of
from tests.chaos.load import Answers
from tests.chaos.truth import Event, Position, Truth, aggregation_of, instant, milliseconds, state_of, states_by
from tests.chaos.world import World

HOUR_MS = 3_600_000
DAY_MS = 24 * HOUR_MS
_DAY = timedelta(days=1)
_STORED = """
    SELECT source, id, type, customer, toUnixTimestamp64Milli(time), properties, partition, offset, `index`, cut
    FROM events
"""
_CHAIN = text("SELECT partition, first_offset, last_offset, state FROM ledger_blocks ORDER BY partition, first_offset")


class Comparison:
    """One truth against one world. `cuts` is filled by `events`, which comes first."""

    def __init__(self, world: World, client: Client, truth: Truth, differences: Differences) -> None:
        self._world = world
        self._client = client
        self._truth = truth
        self._differences = differences
        self._cuts: dict[Position, int] = {}

    async def events(self) -> None:
        """Identity by identity, and where every duplicate and every refused event stands."""
        client = ClickhouseClient(ClickhouseSettings(url=Secret(self._world.endpoints.clickhouse_url)))
        try:
            rows = await client.rows(_STORED)
            copies = await client.rows("SELECT partition, offset, `index` FROM event_duplicates FINAL")
            refused = await client.rows("SELECT partition, offset, `index` FROM events_rejected FINAL")
        finally:
            await client.close()
        compare = self._differences.compare
        seen: set[tuple[str, str]] = set()
        for source, event_id, kind, customer, time_ms, properties, *position, cut in rows:
            key, place = (source, event_id), _place(position)
            self._cuts[place] = cut
            event = self._truth.events.get(key)
            if key in seen or event is None:
                compare(f"{key} stored at {place}", "stored", "once" if event else "absent")
                continue
            seen.add(key)
            found = (kind, customer, time_ms, decode_properties(properties), place)
            compare(f"{key}", found, (event.type, event.customer, event.time_ms, event.properties, event.position))
        for key in self._truth.events.keys() - seen:
            compare(f"{key}", "absent", "stored")
        self._same("duplicates", [_place(row) for row in copies], self._truth.duplicates)
        self._same("rejected events", [_place(row) for row in refused], self._truth.rejected)

    def _same(self, what: str, found: list[Position], expected: set[Position]) -> None:
        compare = self._differences.compare
        compare(f"rows of {what}", len(found), len(expected))
        compare(f"{what} too many", sorted(set(found) - expected)[:5], [])
        compare(f"{what} missing", sorted(expected - set(found))[:5], [])

    async def usage(self, customers: list[str], since: datetime, until: datetime) -> None:
        """Every meter of every customer: by hour, by day, and by dimension where it has any."""
        for customer in customers:
            events = [
                event for event in self._of(customer) if milliseconds(since) <= event.time_ms < milliseconds(until)
            ]
            for meter in METERS:
                await self._windows(customer, events, meter["key"], HOUR_MS, "hour", since, until)
                await self._windows(customer, events, meter["key"], DAY_MS, "day", since, until)
            by_model = states_by(events, "tokens", lambda _, match: match[3][0])
            answer = await self._usage("tokens", customer, since, until, group_by="model")
            found = {item["dimensions"]["model"]: _number(item["value"]) for item in answer["items"]}
            self._differences.compare(f"tokens of {customer} by model", found, _values(by_model, "tokens"))

    async def _windows(
        self,
        customer: str,
        events: list[Event],
        meter: str,
        step_ms: int,
        window: str,
        since: datetime,
        until: datetime,
    ) -> None:
        answer = await self._usage(meter, customer, since, until, window=window)
        expected = _values(states_by(events, meter, lambda event, _: event.time_ms // step_ms), meter)
        nothing = value(EMPTY, aggregation_of(meter))
        found = {
            milliseconds(datetime.fromisoformat(item["window_start"])) // step_ms: _number(item["value"])
            for item in answer["items"]
        }
        what = f"{meter} of {customer} by {window}"
        for place in sorted(found.keys() | expected.keys()):
            at = instant(place * step_ms)
            self._differences.compare(f"{what} at {at}", found.get(place, nothing), expected.get(place, nothing))
        total = value(state_of(events, meter), aggregation_of(meter))
        self._differences.compare(f"{what}, total", _number(answer["total"]), total)

    async def balances(self, plans: dict[str, str], starts: dict[str, datetime]) -> None:
        """What checks say has been used, of every entitlement; `plans` and `starts` by customer."""
        for customer, plan in plans.items():
            granted = {one["feature"]: one for one in _plan(plan)["entitlements"]}
            asked = [{"customer": customer, "feature": feature} for feature in FEATURES_OF[plan]]
            for answer, ask in zip(await self._client.send("POST", "/v1/check", asked), asked, strict=True):
                feature = ask["feature"]
                start, end = starts[customer], datetime.max.replace(tzinfo=starts[customer].tzinfo)
                if granted[feature]["usage_period"] == "day" and answer.get("resets_at"):
                    end = datetime.fromisoformat(answer["resets_at"])
                    start = max(start, end - _DAY)
                state = state_of(self._of(customer), feature, where=_within(start, end))
                expected = value(state, aggregation_of(feature))
                what = f"check of {customer}: {feature}"
                self._differences.compare(what, _number(answer.get("usage")), expected)
                limit = granted[feature].get("limit")
                allowed = limit is None or expected is None or expected < Decimal(limit)
                self._differences.compare(f"{what}, allowed", answer.get("allowed"), allowed)

    async def invoices(self, billed: dict[str, datetime], until: datetime, answers: Answers) -> int:
        """Every hour of every billed customer once, each line; and the same usage again at the invoice's cut."""
        names = {each["id"]: each["external_id"] for each in await self._client.all("/v1/customers")}
        found: dict[tuple[str, datetime], Any] = {}
        for invoice in await self._client.all("/v1/invoices"):
            key = (names[invoice["customer_id"]], datetime.fromisoformat(invoice["period_start"]))
            self._differences.compare(f"other invoices of {key[0]} from {key[1]}", int(key in found), 0)
            found[key] = invoice
        for customer, start in billed.items():
            for hour in range((until - start) // HOUR):
                key = (customer, start + hour * HOUR)
                if key in found:
                    await self._invoice(customer, found[key], answers)
                else:
                    self._differences.compare(f"invoice of {customer} from {key[1]}", "missing", "there")
        return len(found)

    async def _invoice(self, customer: str, invoice: dict[str, Any], answers: Answers) -> None:
        start, end = (datetime.fromisoformat(invoice[name]) for name in ("period_start", "period_end"))
        cut, as_of = invoice["cut"], datetime.fromisoformat(invoice["as_of"])
        what = f"invoice of {customer} from {start:%H:%M}"
        inside = _within(start, end)
        events = [event for event in self._of(customer) if inside(event)]
        counted = [event for event in events if self._cuts.get(event.position, cut) < cut]
        for event in events:
            accepted_at = answers.known[event.key].accepted_at
            if accepted_at is not None and accepted_at < as_of and event not in counted:
                self._differences.compare(f"{what}: {event.key}, accepted before", "left out", "counted")
        prices = {price["key"]: price for price in _plan("hourly")["prices"]}
        expected, lines = {}, {line["price_key"]: line for line in invoice["lines"]}
        for key, price in prices.items():
            quantity = Decimal(1)
            if "meter" in price:
                quantity = value(state_of(counted, price["meter"]), aggregation_of(price["meter"])) or Decimal(0)
                answer = await self._usage(price["meter"], customer, start, end, at=str(cut))
                again = _number(answer["total"]) or Decimal(0)
                self._differences.compare(f"{what}: {key}, usage at its cut", again, quantity)
            rated = rate(msgspec.convert(price["price"], Price, strict=False), quantity, invoice["currency"])
            expected[key] = (quantity, rated.amount)
        got = {key: (Decimal(line["quantity"]), Decimal(line["amount"])) for key, line in lines.items()}
        self._differences.compare(what, got, expected)
        total = sum((amount for _, amount in expected.values()), Decimal(0))
        self._differences.compare(f"{what}, total", Decimal(invoice["total"]), total)

    async def reconciliation(self) -> dict[str, int]:
        """accepted = stored + duplicate + rejected, as many as there must be; and the chain of the ledger has no hole."""
        answer = await self._client.get("/v1/reconciliation")
        names = ("accepted", "stored", "duplicate", "rejected")
        sums = {name: sum(hour[name] for hour in answer["items"]) for name in names}
        compare = self._differences.compare
        compare("reconciliation", answer["difference"], 0)
        compare("reconciled: stored", sums["stored"], len(self._truth.events))
        compare("reconciled: duplicates", sums["duplicate"], len(self._truth.duplicates))
        compare("reconciled: rejected", sums["rejected"], self._truth.rejected_of_tenant)
        compare("reconciled: accepted", sums["accepted"], sums["stored"] + sums["duplicate"] + sums["rejected"])
        engine = create_engine(PostgresSettings(url=Secret(self._world.endpoints.postgres_url)))
        try:
            async with autocommit(engine) as connection:
                rows = (await connection.execute(_CHAIN)).all()
        finally:
            await engine.dispose()
        compare("blocks that are not done", [row for row in rows if row.state == "intent"], [])
        for before, row in pairwise(rows):
            if before.partition == row.partition:
                compare(
                    f"block of {row.partition} after {before.last_offset}", row.first_offset, before.last_offset + 1
                )
        return sums

    def _of(self, customer: str) -> list[Event]:
        return self._truth.of_customer((customer, alias_of(customer)))

    async def _usage(self, meter: str, customer: str, since: datetime, until: datetime, **more: str) -> Any:
        span = {"from": since.isoformat(), "to": until.isoformat()}
        return await self._client.get("/v1/usage", meter=meter, customer=customer, **span, **more)


def _place(row: Any) -> Position:
    partition, offset, index = row
    return int(partition), int(offset), int(index)


def _plan(key: str) -> dict[str, Any]:
    return next(plan for plan in PLANS if plan["key"] == key)


def _number(text_or_none: str | None) -> Decimal | None:
    return None if text_or_none is None else Decimal(text_or_none)


def _values(states: dict[Any, AggregateState], meter: str) -> dict[Any, Decimal | None]:
    return {name: value(state, aggregation_of(meter)) for name, state in states.items()}


def _within(start: datetime, end: datetime) -> Any:
    first, last = milliseconds(start), milliseconds(end)
    return lambda event: first <= event.time_ms < last
