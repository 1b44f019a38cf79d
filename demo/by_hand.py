"""What the answers must be, computed again from the data in a few lines that share nothing with the product."""

from datetime import datetime
from decimal import ROUND_CEILING, ROUND_HALF_UP, Decimal
from typing import Any

import pandas as pd

from demo.catalog import PLANS

CENTS = {"USD": Decimal("0.01"), "EUR": Decimal("0.01"), "JPY": Decimal(1)}

Usage = dict[str, Decimal | None]


def usage(flights: pd.DataFrame, months: list[tuple[datetime, datetime]]) -> dict[tuple[str, int], Usage]:
    """Every meter by (airline, number of the month), by pandas."""
    starts = pd.Series([start for start, _ in months])
    numbered = flights.assign(month_number=starts.searchsorted(flights["at"], side="right") - 1)
    found: dict[tuple[str, int], Usage] = {}
    groups: Any = numbered.groupby(["carrier", "month_number"])
    for (airline, number), part in groups:
        found[str(airline), int(number)] = meters(part)
    return found


def meters(part: pd.DataFrame) -> Usage:
    """The five meters of a set of flights; None where there is no value."""
    longest = part["dep_delay"].max()
    return {
        "flights": Decimal(len(part)),
        "miles": Decimal(int(part["distance"].sum())),
        "air_minutes": Decimal(int(part["air_time"].sum())),
        "aircraft": Decimal(part["tailnum"].nunique()),
        "longest_delay": None if pd.isna(longest) else Decimal(int(longest)),
    }


def _tiered(price: dict[str, Any], units: Decimal) -> Decimal:
    tiers: list[dict[str, str]] = price["tiers"]
    below, amount = Decimal(0), Decimal(0)
    for tier in tiers:
        top = Decimal(tier.get("up_to", "Infinity"))
        each, flat = Decimal(tier["unit_amount"]), Decimal(tier.get("flat_amount", "0"))
        last = units <= top
        if price["model"] == "volume":
            if last:
                return units * each + flat
            continue
        amount += (min(units, top) - below) * each + flat
        if last:
            return amount
        below = top
    raise AssertionError("the last tier has no end")


def price_line(price: dict[str, Any], units: Decimal) -> Decimal:
    """One line, exact."""
    billable = max(units - Decimal(str(price.get("free_units", "0"))), Decimal(0))
    match price["model"]:
        case "flat":
            return Decimal(str(price["amount"]))
        case "per_unit":
            return billable * Decimal(str(price["unit_amount"]))
        case "package":
            packages = (billable / Decimal(str(price["package_size"]))).to_integral_value(ROUND_CEILING)
            return packages * Decimal(str(price["amount"]))
        case _:
            return _tiered(price, billable)


def invoice(plan_key: str, used: Usage) -> dict[str, Decimal]:
    """The amount of each line by its price's key, each rounded once."""
    plan = next(plan for plan in PLANS if plan["key"] == plan_key)
    cent = CENTS[str(plan["currency"])]
    lines: list[dict[str, Any]] = plan["prices"]
    amounts = {}
    for line in lines:
        units = used[str(line["meter"])] if "meter" in line else Decimal(1)
        exact = price_line(line["price"], units or Decimal(0))
        amounts[str(line["key"])] = exact.quantize(cent, ROUND_HALF_UP)
    return amounts
