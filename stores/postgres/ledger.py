"""The block ledger: progress, fence and reconciliation of every partition (protocol A, 14 to 19, 26).

A step that finds its partition row changed raises `Fenced`: the worker has lost the partition and stops. A step whose
outcome is unknown (`Unavailable`) may be taken again with the same arguments: the same epoch gets the same answer.
"""

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

import msgspec
from sqlalchemy import Row, TextClause
from sqlalchemy.ext.asyncio import AsyncEngine

from domain.errors import Unavailable
from schemas.ledger import Intent, LedgerBlock, LedgerPartition, TenantCount, Watermark
from stores.postgres import ledger_leases
from stores.postgres import ledger_statements as statements
from stores.postgres.engine import autocommit
from stores.postgres.ledger_repair import lock_name

HOUR_S = 3600
COUNTS_SKEW = timedelta(hours=1)


class Fenced(Exception):  # noqa: N818 - control flow, not an error of ours: the worker stops
    """Another worker has taken the partition over, or the chain of blocks has moved on without us."""


class Ledger:
    """The ledger in PostgreSQL. Every step is one statement, its own transaction: one round trip."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine

    async def take_over(
        self, topic_id: str, partition: int, generation: int, *, repairing: bool = False
    ) -> LedgerPartition:
        """Raise the epoch: from here on the former owner can neither begin nor finish a block (protocol 11, 14).

        Safe to repeat: only the newest epoch counts. `Fenced` when a newer generation of the group was here
        (protocol 19) within the last hour, or when there is no such partition. `Unavailable` while the partition is
        being repaired; `repairing` is for the repair itself, which holds the lock.
        """
        repair = lock_name(topic_id, partition)
        arguments = {
            "topic_id": topic_id,
            "partition": partition,
            "generation": generation,
            "repair": repair,
            "repairing": repairing,
        }
        row = await self._first(statements.TAKE_OVER, arguments)
        if row is None:
            locked = None if repairing else await self._first(statements.BEING_REPAIRED, {"repair": repair})
            if locked is not None and locked.locked:
                raise Unavailable("repair", f"partition {partition} is being repaired")
            raise Fenced(f"partition {partition} of {topic_id}: no such row, or a generation newer than {generation}")
        return _partition(row)

    async def open_block(self, topic_id: str, partition: int) -> LedgerBlock | None:
        """The intent that is not done: a successor completes it first, same rows, same token."""
        row = await self._first(statements.OPEN_BLOCK, {"topic_id": topic_id, "partition": partition})
        return None if row is None else _block(row)

    async def rejected_in_a_row(self, topic_id: str, partition: int) -> int:
        """How many events were rejected at least since the last one that was not: whole blocks of them."""
        row = await self._first(statements.REJECTED_IN_A_ROW, {"topic_id": topic_id, "partition": partition})
        return 0 if row is None else int(row.rejected)

    async def write_intent(self, epoch: int, intent: Intent, deadline_s: float) -> LedgerBlock:
        """Open a block: the cut it carries and its deadline are decided here, by PostgreSQL (protocol 1, 10).

        Idempotency key: (topic id, partition, first offset) within an epoch; the same intent again returns the block
        as it was first written. `Fenced` when epoch, chain or version (protocol 8) say no.
        """
        arguments = {**_intent_arguments(intent), "epoch": epoch, "deadline_s": deadline_s}
        row = await self._first(statements.WRITE_INTENT, arguments)
        if row is not None:
            return _opened(row, intent, epoch)
        return await self._written_before(epoch, intent)

    async def renew(self, epoch: int, block: LedgerBlock, deadline_s: float) -> LedgerBlock:
        """A new deadline for an open block; a zombie cannot get one (protocol 1). The cut stays: the rows carry it.

        Safe to repeat: it only moves the deadline on.
        """
        intent = block.intent
        arguments = {**_range_arguments(intent), "epoch": epoch, "deadline_s": deadline_s}
        row = await self._first(statements.RENEW, arguments)
        if row is None:
            raise _fenced(intent, epoch, "renew")
        return msgspec.structs.replace(block, epoch=epoch, insert_before=row.insert_before)

    async def lease(self, epoch: int, block: LedgerBlock, deadline_s: float, *, skew_s: float) -> LedgerBlock | float:
        """As `renew`, for an old block (protocol 1): alone among the blocks of its cut, or in how many seconds to ask again.

        Until `insert_before` no other open block of the cut may send anything, and `usage_windows` stands still there.
        """
        intent = block.intent
        arguments = {**_range_arguments(intent), "epoch": epoch, "deadline_s": deadline_s}
        try:
            found = await ledger_leases.lease(self._engine, block, arguments, skew_s=skew_s)
        except ledger_leases.Lost as lost:
            raise _fenced(intent, epoch, "lease") from lost
        if isinstance(found, float):
            return found
        return msgspec.structs.replace(block, epoch=epoch, intent_at=found.intent_at, insert_before=found.insert_before)

    async def finish(self, epoch: int, block: LedgerBlock) -> None:
        """Done: the block's rows are in `events`; its deltas may be sent (protocol 3).

        Idempotency key: (topic id, partition, first offset); a block that is done already, under our epoch, is done.
        """
        row = await self._first(statements.FINISH, {**_done_arguments(block), "epoch": epoch})
        if row is None:
            await self._require_finished(epoch, block)

    async def finish_and_intend(
        self, epoch: int, block: LedgerBlock, next_intent: Intent, deadline_s: float
    ) -> LedgerBlock:
        """`finish(block)` and `write_intent(next_intent)` in one transaction, for a partition with a backlog.

        Idempotency key: those of the two steps.
        """
        if next_intent.first_offset != block.intent.last_offset + 1:
            raise ValueError(f"block {next_intent.first_offset} does not follow {block.intent.last_offset}")
        arguments = {
            **_intent_arguments(next_intent),
            **_done_arguments(block),
            "epoch": epoch,
            "deadline_s": deadline_s,
        }
        row = await self._first(statements.FINISH_AND_INTEND, arguments)
        if row is not None:
            return _opened(row, next_intent, epoch)
        await self._require_finished(epoch, block)
        return await self.write_intent(epoch, next_intent, deadline_s)

    async def record_empty(
        self, epoch: int, *, topic_id: str, partition: int, last_offset: int, version: int, evaluator: int
    ) -> None:
        """An idle partition takes a catalog version over without a record (protocol 4, 8).

        `last_offset` is that of the last done block. Idempotency key: (topic id, partition, position).
        """
        arguments = {
            "topic_id": topic_id,
            "partition": partition,
            "epoch": epoch,
            "first_offset": last_offset + 1,
            "last_offset": last_offset,
            "version": version,
            "evaluator": evaluator,
        }
        if await self._first(statements.RECORD_EMPTY, arguments) is None:
            raise Fenced(f"partition {partition} of {topic_id}: epoch {epoch} cannot take version {version} over")

    async def record_gap(
        self, epoch: int, *, topic_id: str, partition: int, first_offset: int, last_offset: int, evaluator: int
    ) -> None:
        """Offsets that the log does not have, confirmed by a fresh fetch (protocol 17): both ends included.

        Idempotency key: (topic id, partition, first offset); the same gap again is the same row.
        """
        arguments = {
            "topic_id": topic_id,
            "partition": partition,
            "epoch": epoch,
            "before": first_offset - 1,
            "first_offset": first_offset,
            "last_offset": last_offset,
            "evaluator": evaluator,
        }
        if await self._first(statements.RECORD_GAP, arguments) is not None:
            return
        found = await self.block_at(topic_id, partition, first_offset)
        owned = await self._owns(topic_id, partition, epoch)
        if not owned or found is None or (found.state, found.intent.last_offset) != ("gap", last_offset):
            raise Fenced(f"partition {partition} of {topic_id}: epoch {epoch} cannot record a gap at {first_offset}")

    async def mark_idle(self, epoch: int, topic_id: str, partition: int, as_of: datetime) -> None:
        """Everything logged before `as_of` is done: the caller saw the end of the log there (protocol 26).

        Safe to repeat: the greatest instant stays.
        """
        arguments = {"topic_id": topic_id, "partition": partition, "epoch": epoch, "as_of": as_of}
        if await self._first(statements.MARK_IDLE, arguments) is None:
            raise Fenced(f"partition {partition} of {topic_id}: epoch {epoch} is not the owner's")

    async def done_blocks_above(self, topic_id: str, partition: int, offset: int) -> list[LedgerBlock]:
        """Blocks that are done (state `done` or `gap`) with records above `offset`, in order (protocol 3)."""
        arguments = {"topic_id": topic_id, "partition": partition, "offset": offset}
        return [_block(row) for row in await self._all(statements.BLOCKS_ABOVE, arguments)]

    async def block_at(self, topic_id: str, partition: int, first_offset: int) -> LedgerBlock | None:
        """The block, of any state, that begins at `first_offset`."""
        arguments = {"topic_id": topic_id, "partition": partition, "first_offset": first_offset}
        row = await self._first(statements.BLOCK_AT, arguments)
        return None if row is None else _block(row)

    async def newest_stored(self, topic_id: str, partition: int) -> LedgerBlock | None:
        """The last done block that left rows in `events`."""
        row = await self._first(statements.NEWEST_STORED, {"topic_id": topic_id, "partition": partition})
        return None if row is None else _block(row)

    async def watermark(self, topic_id: str) -> Watermark:
        """The smallest over the partitions. Read it before the data it is to vouch for (protocol 26)."""
        row = await self._first(statements.WATERMARK, {"topic_id": topic_id})
        if row is None or not row.partitions:
            raise ValueError(f"the ledger knows no topic {topic_id}: run `meterstream migrate`")
        return Watermark(as_of=row.as_of, partitions=row.partitions)

    async def progress(self, topic_id: str) -> list[LedgerPartition]:
        """Every partition, in order."""
        return [_partition(row) for row in await self._all(statements.PARTITIONS, {"topic_id": topic_id})]

    async def partition(self, topic_id: str, partition: int) -> LedgerPartition | None:
        row = await self._first(statements.PARTITION, {"topic_id": topic_id, "partition": partition})
        return None if row is None else _partition(row)

    async def done_vector(self, topic_id: str) -> dict[int, int]:
        """Last done offset of every partition: the cut of a seed, read before the data (protocol 4)."""
        return {row.partition: row.last_offset for row in await self.progress(topic_id)}

    async def counts(
        self, topic_id: str, tenant: str, environment: str, start: datetime, end: datetime
    ) -> list[TenantCount]:
        """Outcomes of done blocks per receipt hour in `[start, end)`, whole hours, in order; hours without are absent."""
        arguments = {
            "topic_id": topic_id,
            "tenant": tenant,
            "environment": environment,
            "start_hour": int(start.timestamp()) // HOUR_S,
            "end_hour": -(-int(end.timestamp()) // HOUR_S),
            "done_from": start - COUNTS_SKEW,
        }
        return [
            TenantCount(
                tenant=tenant,
                environment=environment,
                hour=int(row.hour),
                stored=int(row.stored),
                duplicate=int(row.duplicate),
                rejected=int(row.rejected),
                forwarded=int(row.forwarded),
            )
            for row in await self._all(statements.COUNTS, arguments)
        ]

    async def _written_before(self, epoch: int, intent: Intent) -> LedgerBlock:
        """The outcome of an earlier commit was unknown: the very same intent under our epoch is ours."""
        block = await self.block_at(intent.topic_id, intent.partition, intent.first_offset)
        owned = await self._owns(intent.topic_id, intent.partition, epoch)
        if owned and block is not None and (block.epoch, block.state, block.intent) == (epoch, "intent", intent):
            return block
        raise _fenced(intent, epoch, "open")

    async def _require_finished(self, epoch: int, block: LedgerBlock) -> None:
        intent = block.intent
        found = await self.block_at(intent.topic_id, intent.partition, intent.first_offset)
        owned = await self._owns(intent.topic_id, intent.partition, epoch)
        if not owned or found is None or (found.state, found.intent) != ("done", intent):
            raise _fenced(intent, epoch, "finish")

    async def _owns(self, topic_id: str, partition: int, epoch: int) -> bool:
        # Read after the block: an epoch that is still ours says that nobody else wrote what we have just read.
        found = await self.partition(topic_id, partition)
        return found is not None and found.epoch == epoch

    async def _first(self, statement: TextClause, arguments: Mapping[str, Any]) -> Row[Any] | None:
        async with autocommit(self._engine) as connection:
            return (await connection.execute(statement, dict(arguments))).first()

    async def _all(self, statement: TextClause, arguments: Mapping[str, Any]) -> list[Row[Any]]:
        async with autocommit(self._engine) as connection:
            return list((await connection.execute(statement, dict(arguments))).all())


def _fenced(intent: Intent, epoch: int, step: str) -> Fenced:
    return Fenced(
        f"partition {intent.partition} of {intent.topic_id}: epoch {epoch} cannot {step}"
        f" block {intent.first_offset}-{intent.last_offset} at version {intent.version}"
    )


def _range_arguments(intent: Intent) -> dict[str, Any]:
    return {
        "topic_id": intent.topic_id,
        "partition": intent.partition,
        "before": intent.first_offset - 1,
        "first_offset": intent.first_offset,
        "last_offset": intent.last_offset,
    }


def _intent_arguments(intent: Intent) -> dict[str, Any]:
    return {
        **_range_arguments(intent),
        "shard": intent.shard,
        "version": intent.version,
        "evaluator": intent.evaluator,
        "stored": intent.stored,
        "duplicate": intent.duplicate,
        "rejected": intent.rejected,
        "forwarded": intent.forwarded,
        "counts": msgspec.json.encode(intent.counts).decode(),
        "row_hash": intent.row_hash,
        "max_event_at": intent.max_event_at,
        "first_logged_at": intent.first_logged_at,
        "last_logged_at": intent.last_logged_at,
    }


def _done_arguments(block: LedgerBlock) -> dict[str, Any]:
    intent = block.intent
    return {
        "topic_id": intent.topic_id,
        "partition": intent.partition,
        "done_before": intent.first_offset - 1,
        "done_first_offset": intent.first_offset,
        "done_last_offset": intent.last_offset,
        "done_last_logged_at": intent.last_logged_at,
    }


def _opened(row: Row[Any], intent: Intent, epoch: int) -> LedgerBlock:
    return LedgerBlock(
        intent=intent,
        epoch=epoch,
        cut=row.cut,
        state="intent",
        intent_at=row.intent_at,
        insert_before=row.insert_before,
    )


def _partition(row: Row[Any]) -> LedgerPartition:
    return LedgerPartition(
        topic_id=row.topic_id,
        partition=row.partition,
        epoch=row.epoch,
        generation=row.generation,
        last_offset=row.last_offset,
        version=row.version,
        idle_as_of=row.idle_as_of,
    )


def _block(row: Row[Any]) -> LedgerBlock:
    intent = Intent(
        topic_id=row.topic_id,
        partition=row.partition,
        first_offset=row.first_offset,
        last_offset=row.last_offset,
        shard=row.shard,
        version=row.version,
        evaluator=row.evaluator,
        stored=row.stored,
        duplicate=row.duplicate,
        rejected=row.rejected,
        forwarded=row.forwarded,
        counts=msgspec.convert(row.counts, list[TenantCount]),
        row_hash=bytes(row.row_hash),
        max_event_at=row.max_event_at,
        first_logged_at=row.first_logged_at,
        last_logged_at=row.last_logged_at,
    )
    return LedgerBlock(
        intent=intent,
        epoch=row.epoch,
        cut=row.cut,
        state=row.state,
        intent_at=row.intent_at,
        insert_before=row.insert_before,
        blocks=row.blocks,
    )
