"""The ledger as readers see it: how far each partition is, and what was counted for whom. Changes nothing."""

from collections.abc import Mapping
from datetime import datetime

from msgspec import Struct
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from domain.errors import NotFound
from schemas.ledger import TenantCount
from schemas.scope import Scope
from stores.postgres.engine import autocommit

_HOUR_S = 3600

_TOPIC = text("SELECT topic_id FROM log_topics WHERE name = :name")

# protocol 26: what is done, or the instant at which the partition was seen to be at the end of the log.
_PARTITIONS = text("""
    SELECT partition, last_offset, coalesce(greatest(last_logged_at, idle_as_of), to_timestamp(0)) AS as_of
    FROM ledger_partitions WHERE topic_id = :topic_id ORDER BY partition
""")

# Blocks are done in the order of their offsets, so those of two vectors are exactly what lies between them.
_BETWEEN = """
    FROM ledger_blocks AS block
    JOIN unnest(CAST(:partitions AS integer[]), CAST(:above AS bigint[]), CAST(:through AS bigint[]))
        AS step (partition, above, through) ON block.partition = step.partition
    CROSS JOIN LATERAL jsonb_array_elements(block.counts) AS count
    WHERE block.topic_id = :topic_id AND block.state = 'done'
        AND block.first_offset > step.above AND block.last_offset <= step.through
"""
_SUMS = """
    sum(CAST(count ->> 3 AS bigint)) AS stored, sum(CAST(count ->> 4 AS bigint)) AS duplicate,
    sum(CAST(count ->> 5 AS bigint)) AS rejected, sum(CAST(count ->> 6 AS bigint)) AS forwarded
"""
_BY_TENANT = text(f"SELECT count ->> 0 AS tenant, count ->> 1 AS environment, {_SUMS} {_BETWEEN} GROUP BY 1, 2")
_OF_TENANT = text(f"SELECT {_SUMS} {_BETWEEN} AND count ->> 0 = :tenant AND count ->> 1 = :environment")
_BY_HOUR = text(f"""
    SELECT CAST(count ->> 2 AS bigint) AS hour, {_SUMS} {_BETWEEN}
        AND count ->> 0 = :tenant AND count ->> 1 = :environment
        AND CAST(count ->> 2 AS bigint) >= :start_hour AND CAST(count ->> 2 AS bigint) < :end_hour
    GROUP BY 1 ORDER BY 1
""")
# Of all tenants. A block is done after its events were received, so what was done before the range (less the skew of
# clocks) holds nothing of it; a replayed record keeps its receipt, so there is no such bound above.
_BY_PARTITION_AND_HOUR = text(f"""
    SELECT block.partition, CAST(count ->> 2 AS bigint) AS hour, {_SUMS} {_BETWEEN}
        AND CAST(count ->> 2 AS bigint) >= :start_hour AND CAST(count ->> 2 AS bigint) < :end_hour
        AND block.done_at >= to_timestamp((:start_hour - 1) * 3600)
    GROUP BY 1, 2 ORDER BY 1, 2
""")


class PartitionProgress(Struct, frozen=True, kw_only=True):
    """Everything of this partition that was logged before `as_of` is done; `last_offset` is the last done one."""

    partition: int
    last_offset: int
    as_of: datetime


class Progress(Struct, frozen=True, kw_only=True):
    """All partitions at one instant. Read it before the data that it is to vouch for (protocol 26)."""

    partitions: tuple[PartitionProgress, ...]

    @property
    def as_of(self) -> datetime:
        return min(one.as_of for one in self.partitions)

    @property
    def vector(self) -> dict[int, int]:
        return {one.partition: one.last_offset for one in self.partitions}


class Outcomes(Struct, frozen=True, kw_only=True):
    """What became of events, in numbers. A forwarded one is counted where it arrived, so it is none of `accepted`."""

    stored: int = 0
    duplicate: int = 0
    rejected: int = 0

    @property
    def accepted(self) -> int:
        return self.stored + self.duplicate + self.rejected

    def plus(self, other: "Outcomes") -> "Outcomes":
        return Outcomes(
            stored=self.stored + other.stored,
            duplicate=self.duplicate + other.duplicate,
            rejected=self.rejected + other.rejected,
        )


class ProgressReader:
    """Reads of one topic of the log, by its name: its id is asked for once."""

    def __init__(self, engine: AsyncEngine, topic: str) -> None:
        self._engine = engine
        self._topic = topic
        self._topic_id: str | None = None

    async def topic_id(self) -> str:
        """Raises NotFound `topic_not_found` before `meterstream migrate`."""
        if self._topic_id is None:
            async with autocommit(self._engine) as conn:
                row = (await conn.execute(_TOPIC, {"name": self._topic})).first()
            if row is None:
                raise NotFound("topic_not_found", f"the topic {self._topic} is not recorded: run `meterstream migrate`")
            self._topic_id = str(row.topic_id)
        return self._topic_id

    async def progress(self) -> Progress:
        topic_id = await self.topic_id()
        async with autocommit(self._engine) as conn:
            rows = (await conn.execute(_PARTITIONS, {"topic_id": topic_id})).all()
        if not rows:
            raise NotFound(
                "topic_not_found", f"the ledger has no partition of {self._topic}: run `meterstream migrate`"
            )
        return Progress(
            partitions=tuple(
                PartitionProgress(partition=row.partition, last_offset=row.last_offset, as_of=row.as_of) for row in rows
            )
        )

    async def outcomes_between(self, above: Mapping[int, int], through: Mapping[int, int]) -> dict[Scope, Outcomes]:
        """Outcomes of the blocks between two vectors (partition -> last done offset), by tenant and environment."""
        topic_id = await self.topic_id()
        async with autocommit(self._engine) as conn:
            rows = (await conn.execute(_BY_TENANT, _steps(topic_id, above, through))).all()
        return {
            Scope(row.tenant, row.environment): Outcomes(
                stored=int(row.stored), duplicate=int(row.duplicate), rejected=int(row.rejected)
            )
            for row in rows
        }

    async def outcomes_of(self, scope: Scope, through: Mapping[int, int]) -> Outcomes:
        """All outcomes of one tenant and environment up to a vector."""
        arguments = _steps(await self.topic_id(), {}, through) | _scoped(scope)
        async with autocommit(self._engine) as conn:
            row = (await conn.execute(_OF_TENANT, arguments)).one()
        return Outcomes(stored=int(row.stored or 0), duplicate=int(row.duplicate or 0), rejected=int(row.rejected or 0))

    async def outcomes_by_hour(
        self, scope: Scope, through: Mapping[int, int], start: datetime, end: datetime
    ) -> list[TenantCount]:
        """Outcomes per receipt hour of `[start, end)` (whole hours), of blocks up to a vector; in order."""
        hours = {
            "start_hour": int(start.timestamp()) // _HOUR_S,
            "end_hour": -(-int(end.timestamp()) // _HOUR_S),
        }
        arguments = _steps(await self.topic_id(), {}, through) | _scoped(scope) | hours
        async with autocommit(self._engine) as conn:
            rows = (await conn.execute(_BY_HOUR, arguments)).all()
        return [
            TenantCount(
                tenant=scope.tenant,
                environment=scope.environment,
                hour=int(row.hour),
                stored=int(row.stored),
                duplicate=int(row.duplicate),
                rejected=int(row.rejected),
                forwarded=int(row.forwarded),
            )
            for row in rows
        ]

    async def outcomes_by_partition_and_hour(
        self, through: Mapping[int, int], start: datetime, end: datetime
    ) -> dict[tuple[int, int], Outcomes]:
        """(partition, receipt hour) -> outcomes of all tenants, of `[start, end)`, whole hours, up to a vector."""
        hours = {"start_hour": int(start.timestamp()) // _HOUR_S, "end_hour": -(-int(end.timestamp()) // _HOUR_S)}
        arguments = _steps(await self.topic_id(), {}, through) | hours
        async with autocommit(self._engine) as conn:
            rows = (await conn.execute(_BY_PARTITION_AND_HOUR, arguments)).all()
        return {
            (row.partition, int(row.hour)): Outcomes(
                stored=int(row.stored), duplicate=int(row.duplicate), rejected=int(row.rejected)
            )
            for row in rows
        }


def _steps(topic_id: str, above: Mapping[int, int], through: Mapping[int, int]) -> dict[str, object]:
    return {
        "topic_id": topic_id,
        "partitions": list(through),
        "above": [above.get(partition, -1) for partition in through],
        "through": list(through.values()),
    }


def _scoped(scope: Scope) -> dict[str, object]:
    return {"tenant": scope.tenant, "environment": scope.environment}
