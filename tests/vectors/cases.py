"""The cases with known results, and what an area's adapter is.

An adapter asserts one case. `later` names the reason why a case needs something that is not built yet, `differs` the
rule by which Meterstream's result is another one (the adapter then asserts ours): both are lists that a reader can
judge, and nothing else is left out.
"""

import json
from collections.abc import Callable
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import Any, NamedTuple

Case = dict[str, Any]

FILES = ("pricing", "time", "metering", "credits", "invoices")


class Area(NamedTuple):
    check: Callable[[Case], None]
    later: Callable[[Case], str | None] = lambda _case: None
    differs: Callable[[Case], str | None] = lambda _case: None


def cases_of(name: str) -> list[Case]:
    loaded: list[Case] = json.loads((Path(__file__).parent / f"{name}.json").read_text())
    return loaded


def applicable(name: str, areas: dict[str, Area]) -> list[Case]:
    return [case for case in cases_of(name) if case["area"] in areas and areas[case["area"]].later(case) is None]


def dec(text: str | float | None) -> Decimal:
    return Decimal(str(text or 0))


def instant(text: str) -> datetime:
    parsed = datetime.fromisoformat(text)
    return parsed if parsed.tzinfo else datetime.fromisoformat(f"{text}T00:00:00+00:00")
