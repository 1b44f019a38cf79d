"""PostgreSQL was restored: blocks whose rows are in `events` and that the ledger has forgotten are entered again.

Their ranges are those that their deltas named, so that the balances worker goes on where it stands; behind the last delta
those of the rows themselves (protocol 18, 22).
"""

from collections.abc import Sequence
from datetime import date

import msgspec
import structlog

from domain.blocks import EVALUATOR
from schemas.deltas import BlockDeltas
from schemas.ledger import LedgerPartition
from stores.clickhouse.identities import ROW_BYTES, identity_rows
from stores.clickhouse.repairs import RowGroup
from stores.postgres import ledger_repair
from streams.ingest_block import PreparedBlock
from streams.ingest_deps import IngestDeps
from streams.ingest_writer import BlockWriter
from streams.log_reader import LogReader
from streams.repair_replay import Replay
from streams.repair_report import Finding, NotMendable, State

_ALL_DAYS = (date(1970, 1, 1), date(2149, 1, 1))

_log = structlog.get_logger(__name__)


class Span(msgspec.Struct, frozen=True, kw_only=True):
    """A block that the ledger lacks. `cut` is its rows'; None where it left none. Both ends included."""

    first_offset: int
    last_offset: int
    version: int
    cut: int | None = None


async def told_spans(log: LogReader, topic_id: str, since_ms: int) -> dict[int, list[Span]]:
    """The blocks of each partition of usage.raw whose deltas were sent since an instant, in order."""
    decoder = msgspec.json.Decoder(BlockDeltas)
    found: dict[int, dict[int, Span]] = {}
    async for value in log.since(0, since_ms):
        deltas = decoder.decode(value)
        if deltas.topic_id == topic_id and not deltas.is_tick:
            span = Span(first_offset=deltas.first_offset, last_offset=deltas.last_offset, version=deltas.version)
            found.setdefault(deltas.partition, {})[span.first_offset] = span
    return {partition: sorted(spans.values(), key=_first) for partition, spans in found.items()}


def plan(last_offset: int, told: Sequence[Span], groups: Sequence[RowGroup], committed: int) -> list[Span]:
    """What lies between the ledger's end and the last of: rows in `events`, deltas, Kafka's committed next offset.

    Contiguous. Raises NotMendable where rows and deltas contradict each other.
    """
    spans: list[Span] = []
    at = last_offset + 1

    def fill(before: int, version: int) -> None:
        nonlocal at
        if at < before:
            spans.append(Span(first_offset=at, last_offset=before - 1, version=version))
            at = before

    known = list(told) + [
        Span(first_offset=group.first_offset, last_offset=group.last_offset, version=group.version)
        for group in groups
        if not any(span.first_offset <= group.first_offset <= span.last_offset for span in told)
    ]
    for span in sorted(known, key=_first):
        if span.last_offset < at:
            continue
        if span.first_offset < at:
            raise NotMendable(f"blocks overlap at {span.first_offset}: one ends at {at - 1}")
        fill(span.first_offset, span.version)
        spans.append(span)
        at = span.last_offset + 1
    fill(committed, spans[-1].version if spans else 0)
    return [_with_cut(span, groups) for span in spans]


def _first(span: Span) -> int:
    return span.first_offset


def _with_cut(span: Span, groups: Sequence[RowGroup]) -> Span:
    inside = [group for group in groups if span.first_offset <= group.first_offset <= span.last_offset]
    if not inside:
        return span
    [group, *others] = inside
    if others or group.cuts != 1 or group.version != span.version or group.last_offset > span.last_offset:
        raise NotMendable(f"the rows in events from {span.first_offset} on are not those of one block")
    return msgspec.structs.replace(span, cut=group.cut)


class Adoption:
    """The blocks of one partition that are entered again, in order. Nobody else can write the ledger meanwhile."""

    def __init__(self, deps: IngestDeps, state: LedgerPartition, replay: Replay, writer: BlockWriter, cut: int) -> None:
        self._deps = deps
        self._state = state
        self._replay = replay
        self._writer = writer
        self._cut = cut
        """That of the last block of the ledger: what left no rows carries the one before it."""

    async def adopt(self, spans: Sequence[Span]) -> tuple[list[Span], list[Finding]]:
        """Returns what was entered, with its cut. Stops at the first that cannot be: the chain has no holes."""
        done: list[Span] = []
        for span in spans:
            try:
                adopted = await self._adopt(span)
            except NotMendable as refused:
                return done, [*(self._told(one, "mended") for one in done), self._told(span, "not_mendable", refused)]
            done.append(adopted)
        return done, [self._told(one, "mended") for one in done]

    def _told(self, span: Span, state: State, reason: object = "") -> Finding:
        message = (
            "the ledger had forgotten this block" if span.cut is not None else "the ledger had forgotten this range"
        )
        return Finding(
            kind="ledger",
            state=state,
            message=f"{message}: {reason}" if reason else message,
            partition=self._state.partition,
            first_offset=span.first_offset,
            last_offset=span.last_offset,
        )

    async def _adopt(self, span: Span) -> Span:
        deps, state = self._deps, self._state
        if await self._replay.is_gap(span.first_offset, span.last_offset):
            await deps.ledger.record_gap(
                state.epoch,
                topic_id=deps.topic_id,
                partition=state.partition,
                first_offset=span.first_offset,
                last_offset=span.last_offset,
                evaluator=EVALUATOR,
            )
            await self._writer.send_deltas(
                first_offset=span.first_offset,
                last_offset=span.last_offset,
                version=state.version,
                as_of_ms=0,
                changes=(),
            )
            return span
        version = max(span.version, state.version)
        blocks = await self._replay.evaluate(span.first_offset, span.last_offset, version, whole=True)
        if len(blocks) != 1:
            raise NotMendable("the log gives more than one block for it")
        await self._demand_rows(span, blocks[0])
        self._cut = self._cut if span.cut is None else span.cut
        await self._writer.leave_outcomes(blocks[0])
        if not await ledger_repair.adopt(deps.engine, state.epoch, blocks[0].intent, self._cut):
            raise NotMendable("another worker has taken the partition over: run the repair again")
        await self._writer.tell(blocks[0])
        _log.info("entered a block again", partition=state.partition, first=span.first_offset, last=span.last_offset)
        return msgspec.structs.replace(span, cut=self._cut)

    async def _demand_rows(self, span: Span, block: PreparedBlock) -> None:
        """The same identities at the same positions: then the rest of the rows is the same, by version and evaluator."""
        deps = self._deps
        found = await identity_rows(
            deps.clickhouse, deps.topic_id, self._state.partition, (span.first_offset, span.last_offset), _ALL_DAYS
        )
        packed = found.rows.tobytes()
        stored = sorted(packed[start : start + ROW_BYTES] for start in range(0, len(packed), ROW_BYTES))
        accepted = sorted(identity + position for identity, position, _ in block.outcomes.accepted)
        if stored != accepted:
            raise NotMendable(f"the log gives {len(accepted)} rows for it, events has {len(stored)} or others")
