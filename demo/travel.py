"""An old invoice comes to the same cent, whatever arrives after it."""

import asyncio
from datetime import datetime
from decimal import Decimal

import pandas as pd

from demo.client import Client
from demo.flights import bodies
from demo.verify import Differences

REPLAYED = 5_000
LATE = 1_000
EVENTS_A_REQUEST = 1000
PARALLEL = 4
# Each is four statements: one in so many says enough in a demo.
ONE_IN = 4


async def send_more(client: Client, flights: pd.DataFrame, seed: int) -> tuple[int, int]:
    """A part of the flights twice more, and as many as LATE that nobody has reported before, in the invoiced periods:
    (duplicates, new ones).
    """
    again = flights.sample(REPLAYED, random_state=seed)
    late = flights.sample(LATE, random_state=seed + 1)
    replayed = 0
    for part in (again, again.iloc[::-1]):
        replayed += await client.send_all(bodies(part, EVENTS_A_REQUEST))
    new = await client.send_all(bodies(late.assign(id="late-" + late["id"]), EVENTS_A_REQUEST))
    return replayed, new


async def recomputed(client: Client, start: datetime, end: datetime, flown: int, differences: Differences) -> int:
    """Invoices of all airlines computed again, from windows and from events; how many. `flown` is what all billed."""
    await client.send("POST", "/v1/cuts", {})
    invoices = (await client.all("/v1/invoices"))[::ONE_IN]
    limit = asyncio.Semaphore(PARALLEL)

    async def one(invoice: dict[str, str]) -> None:
        async with limit:
            again = await client.get(f"/v1/invoices/{invoice['id']}/recompute")
        what = f"invoice {invoice['number']} recomputed"
        total = invoice["total"]
        differences.compare(what, again["total"], {"billed": total, "windows": total, "events": total})
        other = [line["price_key"] for line in again["lines"] if not line["same"]]
        differences.compare(f"{what}: lines that differ", other, [])

    await asyncio.gather(*map(one, invoices))
    query = {"meter": "flights", "from": start.isoformat(), "to": end.isoformat()}
    now = await client.get("/v1/usage", **query)
    differences.compare("flights now", Decimal(now["total"]), Decimal(flown + LATE))
    for cut in sorted({str(invoice["cut"]) for invoice in invoices}):
        then = await client.get("/v1/usage", **query, at=cut)
        differences.compare(f"flights as known at cut {cut}", Decimal(then["total"]), Decimal(flown))
    return len(invoices)
