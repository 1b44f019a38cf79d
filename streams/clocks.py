"""What deadlines rely on, asserted when an ingest worker starts (protocol 1): the settings agree, and so do the clocks."""

from datetime import datetime

import msgspec
from sqlalchemy.ext.asyncio import AsyncEngine

from runtime.clock import Clock
from runtime.settings import IngestSettings
from stores.clickhouse.client import ClickhouseClient
from stores.clocks import clickhouse_now, postgres_now

_ATTEMPTS = 5
_QUARTER = 4


class DeadlineError(Exception):
    """The settings of deadlines contradict each other."""


class ClockSkewError(Exception):
    """The clocks of PostgreSQL, which gives deadlines, and of ClickHouse, which enforces them, lie too far apart."""


class Reading(msgspec.Struct, frozen=True, kw_only=True):
    """One server's clock, read between two instants of ours."""

    before: datetime
    read: datetime
    after: datetime

    def ahead_s(self) -> tuple[float, float]:
        """At least and at most so many seconds ahead of our clock."""
        return (self.read - self.after).total_seconds(), (self.read - self.before).total_seconds()


def check_deadlines(ingest: IngestSettings) -> None:
    """Raises DeadlineError unless skew < D/4 and D < H."""
    deadline_s, horizon_s, skew_s = ingest.insert_deadline_s, ingest.token_horizon_s, ingest.clock_skew_s
    if not 0 < deadline_s < horizon_s:
        raise DeadlineError(
            f"METERSTREAM_INGEST_INSERT_DEADLINE_S ({deadline_s:g}) must be below METERSTREAM_INGEST_TOKEN_HORIZON_S ({horizon_s:g})"
        )
    if not 0 <= skew_s < deadline_s / _QUARTER:
        raise DeadlineError(
            f"METERSTREAM_INGEST_CLOCK_SKEW_S ({skew_s:g}) must be below a quarter of"
            f" METERSTREAM_INGEST_INSERT_DEADLINE_S ({deadline_s:g})"
        )


def surely_apart_s(one: Reading, other: Reading) -> float:
    """The least by which two clocks differ: slow answers prove nothing."""
    (one_least, one_most), (other_least, other_most) = one.ahead_s(), other.ahead_s()
    return max(one_least - other_most, other_least - one_most, 0.0)


async def check_clocks(
    engine: AsyncEngine, clickhouse: ClickhouseClient, clock: Clock, ingest: IngestSettings
) -> float:
    """The seconds by which the two clocks are apart for certain. Raises ClockSkewError beyond the setting's, Unavailable."""
    apart_s = 0.0
    for _ in range(_ATTEMPTS):
        before = clock.now()
        given = await postgres_now(engine)
        between = clock.now()
        enforced = await clickhouse_now(clickhouse)
        after = clock.now()
        apart_s = max(
            apart_s,
            surely_apart_s(
                Reading(before=before, read=given, after=between), Reading(before=between, read=enforced, after=after)
            ),
        )
    if apart_s > ingest.clock_skew_s:
        raise ClockSkewError(
            f"the clocks of PostgreSQL and ClickHouse are {apart_s:.3f} s apart, METERSTREAM_INGEST_CLOCK_SKEW_S allows"
            f" {ingest.clock_skew_s:g}: set the clocks right"
        )
    return apart_s
