"""Rejected events that were sent again: one row a position, which fixes for ever as what."""

from collections.abc import Sequence
from datetime import datetime

import msgspec
from sqlalchemy import Row, text
from sqlalchemy.ext.asyncio import AsyncConnection

from schemas.event_records import EventPosition, Replay
from schemas.scope import Scope

_STEPS = """
    unnest(CAST(:topics AS text[]), CAST(:partitions AS integer[]), CAST(:offsets AS bigint[]), CAST(:indexes AS bigint[]))
"""
_CLAIM = text("""
    INSERT INTO rejected_replays (topic_id, partition, "offset", "index", tenant, environment, source, event_id, key_id)
    SELECT step.topic_id, step.partition, step."offset", step."index", :tenant, :environment, step.source, step.event_id, :key_id
    FROM unnest(CAST(:topics AS text[]), CAST(:partitions AS integer[]), CAST(:offsets AS bigint[]),
        CAST(:indexes AS bigint[]), CAST(:sources AS text[]), CAST(:ids AS text[]))
        AS step (topic_id, partition, "offset", "index", source, event_id)
    ORDER BY 1, 2, 3, 4
    ON CONFLICT DO NOTHING
""")
_FIND = text(f"""
    SELECT replay.* FROM rejected_replays AS replay
    JOIN {_STEPS} AS step (topic_id, partition, "offset", "index") USING (topic_id, partition, "offset", "index")
""")
_FINISH = text(f"""
    UPDATE rejected_replays AS replay SET replayed_at = :at
    FROM {_STEPS} AS step (topic_id, partition, "offset", "index")
    WHERE replay.topic_id = step.topic_id AND replay.partition = step.partition
        AND replay."offset" = step."offset" AND replay."index" = step."index" AND replay.replayed_at IS NULL
""")


class Claim(msgspec.Struct, frozen=True, kw_only=True):
    """As what the event rejected at `position` is to be sent again."""

    position: EventPosition
    source: str
    id: str


async def claim_replays(
    conn: AsyncConnection, scope: Scope, key_id: str, claims: Sequence[Claim]
) -> dict[EventPosition, Replay]:
    """What each of the positions is replayed as: what is claimed here, unless another claim came before.

    Safe to repeat, and by two at once: the first claim of a position stands. So whoever replays an event, and however
    often, sends the same identity, which is counted once.
    """
    names = {"sources": [one.source for one in claims], "ids": [one.id for one in claims]}
    places = _places([one.position for one in claims])
    owner = {"tenant": scope.tenant, "environment": scope.environment, "key_id": key_id}
    await conn.execute(_CLAIM, {**places, **names, **owner})
    return await find_replays(conn, [one.position for one in claims])


async def finish_replays(conn: AsyncConnection, positions: Sequence[EventPosition], at: datetime) -> None:
    """The log has acknowledged them. Safe to repeat: the first instant stands."""
    await conn.execute(_FINISH, {**_places(positions), "at": at})


async def find_replays(conn: AsyncConnection, positions: Sequence[EventPosition]) -> dict[EventPosition, Replay]:
    """What is known of these positions; those that were never replayed are left out."""
    if not positions:
        return {}
    return {_position(row): _replay(row) for row in await conn.execute(_FIND, _places(positions))}


def _places(positions: Sequence[EventPosition]) -> dict[str, object]:
    return {
        "topics": [one.topic_id for one in positions],
        "partitions": [one.partition for one in positions],
        "offsets": [one.offset for one in positions],
        "indexes": [one.index for one in positions],
    }


def _position(row: Row[tuple[object, ...]]) -> EventPosition:
    found = row._mapping  # noqa: SLF001 - `index` is also a method of a row
    return EventPosition(
        topic_id=found["topic_id"], partition=found["partition"], offset=found["offset"], index=found["index"]
    )


def _replay(row: Row[tuple[object, ...]]) -> Replay:
    found = row._mapping  # noqa: SLF001
    return Replay(
        tenant=found["tenant"],
        environment=found["environment"],
        source=found["source"],
        id=found["event_id"],
        at=found["replayed_at"],
    )
