"""The product's answers beside ours: every difference is counted and printed."""

import asyncio
from datetime import datetime
from decimal import Decimal

import pandas as pd

from demo import by_hand
from demo.catalog import METERS, PLANS, plan_of
from demo.client import Client

Months = list[tuple[datetime, datetime]]
PARALLEL = 4
SHOWN = 10


class Differences:
    """What was compared, and what was not equal."""

    def __init__(self, *, quiet: bool = False) -> None:
        self.quiet = quiet
        self.compared = 0
        self.found: list[str] = []

    def compare(self, what: str, got: object, expected: object) -> None:
        self.compared += 1
        if got != expected:
            self.found.append(f"{what}: {got}, should be {expected}")
            if not self.quiet and len(self.found) <= SHOWN:
                print(f"  DIFFERENCE {self.found[-1]}", flush=True)


def _number(text: str | None) -> Decimal | None:
    return None if text is None else Decimal(text)


async def usage(client: Client, flights: pd.DataFrame, months: Months, differences: Differences) -> None:
    """Every meter of every airline and month, in all and by origin airport, against pandas."""
    expected = by_hand.usage(flights, months)
    empty = by_hand.meters(flights.iloc[0:0])
    by_origin = {
        (airline, origin): by_hand.usage(part, months)
        for (airline, origin), part in flights.assign(airline=flights["carrier"]).groupby(["airline", "origin"])
    }
    origins = sorted(flights["origin"].unique())
    limit = asyncio.Semaphore(PARALLEL)

    async def one(airline: str, number: int, meter: str) -> None:
        start, end = months[number]
        async with limit:
            answer = await client.get(
                "/v1/usage",
                meter=meter,
                customer=airline,
                group_by="origin",
                **{"from": start.isoformat(), "to": end.isoformat()},
            )
        what = f"{meter} of {airline} from {start:%Y-%m-%d}"
        differences.compare(what, _number(answer["total"]), expected.get((airline, number), empty)[meter])
        got = {item["dimensions"]["origin"]: _number(item["value"]) for item in answer["items"]}
        for origin in origins:
            used = by_origin.get((airline, origin), {}).get((airline, number))
            if used is not None:
                differences.compare(f"{what} at {origin}", got.get(origin), used[meter])
            else:
                differences.compare(f"{what} at {origin}", got.get(origin, "none"), "none")

    airlines = sorted(flights["carrier"].unique())
    await asyncio.gather(*(one(a, n, str(m["key"])) for a in airlines for n in range(len(months)) for m in METERS))


async def invoices(client: Client, flights: pd.DataFrame, months: Months, differences: Differences) -> int:
    """Every invoice, line by line, against a rating by hand; how many there are."""
    used = by_hand.usage(flights, months)
    empty = by_hand.meters(flights.iloc[0:0])
    airlines = sorted(flights["carrier"].unique())
    plans = plan_of(airlines)
    customers = {each["id"]: each["external_id"] for each in await client.all("/v1/customers")}
    found = await client.all("/v1/invoices")
    expected = {
        (airline, start): by_hand.invoice(plans[airline], used.get((airline, number), empty))
        for airline in airlines
        for number, (start, _) in enumerate(months)
    }
    seen = set()
    for listed in found:
        invoice = listed if "lines" in listed else await client.get(f"/v1/invoices/{listed['id']}")
        key = (customers[invoice["customer_id"]], datetime.fromisoformat(invoice["period_start"]))
        what = f"invoice of {key[0]} from {key[1]:%Y-%m-%d}"
        differences.compare(f"{what}: others before it", int(key in seen), 0)
        seen.add(key)
        lines = {line["price_key"]: Decimal(line["amount"]) for line in invoice["lines"]}
        differences.compare(what, lines, expected.get(key))
        differences.compare(f"{what}, total", Decimal(invoice["total"]), sum(expected.get(key, {}).values()))
    differences.compare("invoices", len(found), len(airlines) * len(months))
    return len(found)


async def checks(client: Client, flown: dict[str, int], differences: Differences) -> dict[str, bool]:
    """Whether each airline may depart once more, against the limit of its plan and the flights it has flown.

    One that cannot be told yet (its counter is still being read) is a difference.
    """
    asked = [{"customer": airline, "feature": "departures", "quantity": "1"} for airline in flown]
    answers = await client.send("POST", "/v1/check", asked)
    plans = plan_of(list(flown))
    allowed = {}
    for (airline, count), answer in zip(flown.items(), answers, strict=True):
        limit, soft = _limit(plans[airline])
        fits = count + 1 <= limit
        reason = "within_limit" if fits else "soft_limit_exceeded" if soft else "limit_exceeded"
        differences.compare(f"check of {airline}: usage", _number(answer.get("usage")), Decimal(count))
        differences.compare(f"check of {airline}: allowed", answer.get("allowed"), fits or soft)
        differences.compare(f"check of {airline}: reason", answer.get("reason"), reason)
        allowed[airline] = bool(answer.get("allowed"))
    return allowed


def _limit(plan_key: str) -> tuple[int, bool]:
    plan = next(plan for plan in PLANS if plan["key"] == plan_key)
    granted = next(each for each in plan["entitlements"] if each["feature"] == "departures")
    return int(granted["limit"]), bool(granted.get("soft", False))
