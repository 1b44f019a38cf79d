"""Comparing what two sources say of the same thing."""

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta

from schemas.reconciliation import HourDifference

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
OUTCOMES = ("stored", "duplicate", "rejected")

# (partition, receipt hour since the epoch)
Place = tuple[int, int]


def hour_differences(
    ledger: Mapping[Place, Mapping[str, int]], rows: Mapping[Place, Mapping[str, int]]
) -> Iterator[HourDifference]:
    """In order of partition and hour; an hour that one side lacks has 0 there."""
    for place in sorted({*ledger, *rows}):
        partition, hour = place
        for outcome in OUTCOMES:
            counted = ledger.get(place, {}).get(outcome, 0)
            held = rows.get(place, {}).get(outcome, 0)
            if counted != held:
                yield HourDifference(
                    partition=partition,
                    hour=_EPOCH + hour * timedelta(hours=1),
                    outcome=outcome,
                    ledger=counted,
                    rows=held,
                )
