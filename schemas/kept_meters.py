"""A meter with what the catalog keeps about it."""

from datetime import datetime

from schemas.meters import Meter


class KeptMeter(Meter, frozen=True, kw_only=True):
    """`taken_up_in` is the catalog version that began this generation: events before it are not counted by it."""

    taken_up_in: int
    revision: int
    created_at: datetime
    archived_at: datetime | None
