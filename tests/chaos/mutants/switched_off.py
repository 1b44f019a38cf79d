"""The rules of the protocol, each switched off by replacing a piece of our modules in the process that runs them."""

import re
import uuid
from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Any

from msgspec.structs import replace
from sqlalchemy import text

from domain import counters
from domain.blocks import pack_position
from runtime.clock import SystemClock
from stores.clickhouse import blocks
from stores.postgres import ledger_statements
from stores.postgres.ledger import Ledger
from streams import ingest, ingest_block, ingest_completion, ingest_writer, log_reader
from streams.ingest_partition import Partition
from streams.ingest_recovery import Recovery

_CHAIN = re.compile(
    r"AND (?:last_offset = :(?:before|done_before|last_offset)|open_last_offset (?:IS NULL|= :(?:done_)?last_offset))"
)
_FENCED = " AND epoch = :epoch"
_STEPS = ("WRITE_INTENT", "RENEW", "FINISH", "FINISH_AND_INTEND", "RECORD_EMPTY", "RECORD_GAP")


def no_fencing_no_chain() -> None:
    _without_chain(fencing=False)


def no_contiguity_no_chain() -> None:
    """A record that is missing is not missed."""
    _without_chain(fencing=True)
    accept = Partition.accept

    async def accept_any(self: Partition, record: Any, event: Any) -> None:
        self.next_offset = max(self.next_offset, record.offset)
        await accept(self, record, event)

    _put(Partition, "accept", accept_any)


def claim_instead_of_position() -> None:
    """What is known at all is a duplicate, wherever it is known."""
    judge = _piece(ingest_block, "judge_block")

    def claim(decoded: Any, known: Sequence[bytes | None], *args: Any) -> Any:
        return judge(decoded, [one and pack_position(0, 0) for one in known], *args)

    _put(ingest_block, "judge_block", claim)


def no_insert_token() -> None:
    """Each attempt is a new insert."""
    settings = blocks.insert_settings

    def unheard_of(*args: Any, **kwargs: Any) -> dict[str, Any]:
        return {**settings(*args, **kwargs), "insert_deduplication_token": uuid.uuid4().hex}

    _put(blocks, "insert_settings", unheard_of)


def no_deadline() -> None:
    """The table is told a deadline that never comes."""
    for module in (ingest_writer, ingest_completion):
        _put(module, "insert_block", _unhurried(_piece(module, "insert_block")))


def version_not_in_intent() -> None:
    """A successor judges an open block by the catalog that it has."""
    complete = ingest_completion.Completion.complete

    async def complete_by_current(self: Any, writer: Any, state: Any, opened: Any) -> None:
        catalog = self._deps.catalog
        self._deps = replace(self._deps, catalog=_Current(catalog))
        await complete(self, writer, state, opened)

    _put(ingest_completion.Completion, "complete", complete_by_current)


def worker_clock() -> None:
    """Limits on times are judged when a record is processed."""
    to_record = log_reader.to_record

    def received_now(*args: Any) -> Any:
        now = SystemClock().now()
        return replace(to_record(*args), received_at_ms=int(now.timestamp() * 1000))

    for module in (log_reader, ingest):
        _put(module, "to_record", received_now)


def filter_before_fence() -> None:
    """The filter is brought up to the ledger first, and the former owner is fenced afterwards."""
    take_over = Recovery.take_over

    async def filter_first(self: Any, committed: int) -> Any:
        state = await self._deps.ledger.partition(self._deps.topic_id, self._number)
        await self._filter.bring_up(state)

        async def is_up_already(_: Any) -> None:
            return None

        self._filter.bring_up = is_up_already
        try:
            return await take_over(self, committed)
        finally:
            del self._filter.bring_up

    _put(Recovery, "take_over", filter_first)


def no_block_guard() -> None:
    """Deltas that come again are added again."""
    from streams import balances_steps  # its libraries are for its role alone

    applied, follows = counters.applied, _piece(balances_steps, "follows")

    def applied_again(counter: Any, *args: Any) -> Any:
        return applied(replace(counter, guard={}), *args)

    def follows_always(progress: Any, deltas: Any) -> bool:
        return follows(progress, deltas) or not deltas.is_tick

    _put(counters, "applied", applied_again)
    _put(balances_steps, "follows", follows_always)


def deltas_not_repeated() -> None:
    """A done block is skipped by a successor."""

    async def skip(*_: Any) -> None:
        return None

    _put(Recovery, "_repeat_deltas", skip)


def ack_before_insert() -> None:
    accept = Partition.accept

    async def ack_first(self: Partition, record: Any, event: Any) -> None:
        event.ack()
        await accept(self, record, _Acknowledged())

    _put(Partition, "accept", ack_first)


def no_idle_check() -> None:
    """Who has nothing to do believes that there is nothing."""

    async def believe(*_: Any) -> None:
        return None

    _put(Partition, "_end_or_stuck", believe)


MUTANTS: dict[str, Callable[[], None]] = {
    "fencing-and-chain": no_fencing_no_chain,
    "contiguity-and-chain": no_contiguity_no_chain,
    "position-rule": claim_instead_of_position,
    "insert-token": no_insert_token,
    "deadline": no_deadline,
    "versions-in-intent": version_not_in_intent,
    "receipt-time": worker_clock,
    "take-over-order": filter_before_fence,
    "block-guard": no_block_guard,
    "deltas-order": deltas_not_repeated,
    "ack-order": ack_before_insert,
    "idle-check": no_idle_check,
}


class _Current:
    """A catalog without a memory."""

    def __init__(self, catalog: Any) -> None:
        self._catalog = catalog

    def at(self, _: int) -> Any:
        return self._catalog.current()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._catalog, name)


class _Acknowledged:
    """An event whose acknowledgement was given before."""

    def ack(self) -> None:
        return None


def _without_chain(*, fencing: bool) -> None:
    """Blocks need not follow each other, and a row may take the place of another; nor need the epoch be ours."""
    for name in _STEPS:
        statement: str = getattr(ledger_statements, name).text
        loose = _CHAIN.sub("", statement).replace(ledger_statements._REPLACED, "excluded.state")
        if loose == statement or _FENCED not in statement:
            raise AssertionError(f"{name} has changed: nothing was switched off")
        _put(ledger_statements, name, text(loose if fencing else loose.replace(_FENCED, "")))
    if not fencing:

        async def owns(*_: Any) -> bool:
            return True

        _put(Ledger, "_owns", owns)


def _unhurried(insert_block: Any) -> Any:
    async def insert(*args: Any, insert_before: Any, deadline_s: float, **kwargs: Any) -> None:
        later = insert_before + timedelta(days=1)
        await insert_block(*args, insert_before=later, deadline_s=deadline_s + 60, **kwargs)

    return insert


def _piece(owner: Any, name: str) -> Any:
    """What is to be replaced. AttributeError: the code has changed, and the mutant must follow it."""
    return getattr(owner, name)


def _put(owner: Any, name: str, piece: Any) -> None:
    _piece(owner, name)
    setattr(owner, name, piece)
