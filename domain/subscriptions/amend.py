"""Several changes as one: all are recorded in order, or none is."""

from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple

from domain.subscriptions.billable import check_billable
from domain.subscriptions.fold import fold
from domain.subscriptions.history import Recorded, record_change
from schemas.subscription_changes import Cancel, ChangeRecord, ChangeRequest, History
from schemas.subscription_life import Life, Sold


class Amended(NamedTuple):
    """`records` are to be added to the history, none where all were recorded before; `life` is what there is after them."""

    records: tuple[ChangeRecord, ...]
    life: Life


def amended(
    history: History, requests: Sequence[ChangeRequest], sold: Sold, now: datetime, billed_to: datetime | None = None
) -> Amended:
    """The records that `requests`, one at least, add to `history` at `now`. Safe to repeat by their keys, and a
    cancellation by its end.

    Raises what `record_change` and `check_billable` raise: then nothing is recorded.
    """
    told = history
    for request in requests:
        recorded = record_change(told, request, sold, now, billed_to)
        if not recorded.repeated and not _stands(told, recorded):
            told = (*told, recorded.record)
    life = fold(told)
    check_billable(life, sold)
    return Amended(told[len(history) :], life)


def _stands(told: History, recorded: Recorded) -> bool:
    """Whether the end that is asked for is set already: cancelling twice is cancelling once."""
    if not told or not isinstance(recorded.record.change, Cancel):
        return False
    before, after = fold(told).cancellation, recorded.life.cancellation
    return before is not None and after is not None and before.end_at == after.end_at
