"""Whether the stores hold what the ledger says, asked at every take-over (protocol 11, 18): was one of them restored?

Each check is one or two reads by position. Who is refused here counts nothing until `meterstream repair` was run: other
blocks under other tokens would count what is there a second time.
"""

import asyncio

from schemas.ledger import LedgerBlock, LedgerPartition
from stores.clickhouse.block_outcomes import stored_count
from stores.clickhouse.window_completion import lacks_windows, touched_by
from streams.ingest_deps import IngestDeps
from streams.ingest_errors import LedgerMismatchError
from streams.retry import until_available

LARGEST_OFFSET = (1 << 63) - 1

_REPAIR = "stop here and run `meterstream repair`"
# A replica may still be behind; a single server never is.
_REPLICA_ATTEMPTS = 15
_REPLICA_WAIT_S = 1.0


class StoreChecks:
    """The checks of one partition. All raise LedgerMismatchError with what was found and what to do."""

    def __init__(self, deps: IngestDeps, partition: int) -> None:
        self._deps = deps
        self._number = partition

    async def run(self, state: LedgerPartition, opened: LedgerBlock | None, committed: int) -> None:
        """Call under the new epoch, before anything is written. `committed` is Kafka's next offset of the group."""
        end = state.last_offset if opened is None else opened.intent.last_offset
        await self._postgres_is_not_behind(end, committed)
        await self._newest_block_is_there()

    async def _postgres_is_not_behind(self, end: int, committed: int) -> None:
        """Protocol 18: rows that the ledger knows nothing of, or records acknowledged before they were done."""
        deps = self._deps
        beyond = await until_available(
            lambda: stored_count(deps.clickhouse, deps.topic_id, self._number, end + 1, LARGEST_OFFSET),
            deps.budget_s,
            step="look",
        )
        found = f"events has {beyond} rows beyond it" if beyond else ""
        if not beyond and committed > end + 1:
            found = f"offset {committed} is committed in Kafka"
        if found:
            raise LedgerMismatchError(
                f"partition {self._number}: the ledger ends at {end}, but {found}: PostgreSQL was restored from an older"
                f" backup? {_REPAIR}"
            )

    async def _newest_block_is_there(self) -> None:
        """Whatever ClickHouse has lost, if it was restored to an earlier state then the newest block is among it."""
        deps = self._deps
        newest = await until_available(
            lambda: deps.ledger.newest_stored(deps.topic_id, self._number), deps.budget_s, step="newest block"
        )
        if newest is None:
            return
        intent = newest.intent
        for attempt in range(_REPLICA_ATTEMPTS):
            found = await until_available(
                lambda: stored_count(
                    deps.clickhouse, deps.topic_id, self._number, intent.first_offset, intent.last_offset
                ),
                deps.budget_s,
                step="look",
            )
            if found == intent.stored:
                break
            if not deps.clickhouse.cluster or attempt == _REPLICA_ATTEMPTS - 1:
                raise self._lost(newest, f"{found} of its {intent.stored} rows in events")
            await asyncio.sleep(_REPLICA_WAIT_S)
        # A row that stands for many blocks is no new one: its windows are many, and were there when newer ones came.
        lacking = (
            0
            if newest.blocks > 1
            else await until_available(lambda: self._lacking_windows(newest), deps.budget_s, step="windows")
        )
        if lacking:
            raise self._lost(newest, f"all rows in events, but not in {lacking} of the windows it counted in")

    async def _lacking_windows(self, block: LedgerBlock) -> int:
        deps, intent = self._deps, block.intent
        scope = await touched_by(
            deps.clickhouse, deps.topic_id, self._number, intent.first_offset, intent.last_offset, block.cut
        )
        return 0 if scope is None else await lacks_windows(deps.clickhouse, scope)

    def _lost(self, block: LedgerBlock, found: str) -> LedgerMismatchError:
        intent = block.intent
        return LedgerMismatchError(
            f"partition {self._number}: block {intent.first_offset}-{intent.last_offset} is done, and has {found}:"
            f" ClickHouse was restored from an older backup? {_REPAIR}"
        )
