"""Reading the usage of a batch: what takes too long in one statement is read in smaller ones."""

from collections.abc import Mapping
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import msgspec
import pytest

from runtime.settings import ClickhouseSettings
from schemas.billing import BilledMeter, Counted
from schemas.meters import Meter
from schemas.scope import Scope
from schemas.usage import UsageRange
from stores.billing import read_usage
from stores.clickhouse.client import ClickhouseClient, Row, TookTooLong

JUNE, JULY = (datetime(2026, month, 1, tzinfo=UTC) for month in (6, 7))
CALLS = Meter(id="met_1", key="calls", event_types=("call",), aggregation="count")


class Slow(ClickhouseClient):
    """Counts the number of each subscription, and has time for so many ranges a statement."""

    at_most = 1

    async def rows(self, sql: str, parameters: Mapping[str, Any] | None = None, **settings: Any) -> list[Row]:
        del sql, settings
        given = parameters or {}
        [pieces] = [msgspec.json.decode(text) for name, text in given.items() if name.endswith("_pieces")]
        if len(pieces) > self.at_most:
            raise TookTooLong("clickhouse", "timeout")
        return [(place, int(references[0])) for place, _, _, _, _, references, _ in pieces]


def wanted(numbers: range) -> dict[BilledMeter, UsageRange]:
    return {
        BilledMeter(f"sub_{number}", JUNE, CALLS.id): UsageRange(
            meter_id=CALLS.id, generation=1, references=(str(number),), start=JUNE, end=JULY
        )
        for number in numbers
    }


@pytest.mark.parametrize("at_most", [1, 3, 100])
async def test_a_batch_that_takes_too_long_is_read_in_parts(at_most: int) -> None:
    client = Slow(ClickhouseSettings())
    client.at_most = at_most
    ranges = {Scope("acme", "live"): wanted(range(4)), Scope("bolt", "live"): wanted(range(4, 7))}
    found = await read_usage(client, {CALLS.id: CALLS}, ranges, 1)
    assert {one.subscription_id: counted for one, counted in found.items()} == {
        f"sub_{number}": Counted(value=Decimal(number), recount=Decimal(number)) for number in range(7)
    }


async def test_one_range_that_takes_too_long_says_so() -> None:
    client = Slow(ClickhouseSettings())
    client.at_most = 0
    with pytest.raises(TookTooLong):
        await read_usage(client, {CALLS.id: CALLS}, {Scope("acme", "live"): wanted(range(3))}, 1)
