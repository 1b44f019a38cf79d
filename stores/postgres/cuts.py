"""The global cut (protocol 10): cutoff C is all blocks with `cut < C`, complete once no such intent is open."""

import asyncio
import contextlib
from datetime import datetime

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from domain.cuts import check_known
from domain.errors import Conflict
from schemas.cuts import RaisedCut
from stores.postgres.engine import autocommit, transaction

POLL_S = 0.05

_CURRENT = text("SELECT cut FROM usage_cut WHERE id = 1")
_LOCK = text("SELECT cut, raised_at FROM usage_cut WHERE id = 1 FOR UPDATE")
# Every cut leaves its instant behind, so that the cutoff of an instant can be found.
_RAISE = text("""
    WITH raised AS (UPDATE usage_cut SET cut = cut + 1, raised_at = :now WHERE id = 1 RETURNING cut, raised_at),
        kept AS (INSERT INTO usage_cuts (cut, raised_at) SELECT cut, raised_at FROM raised
            ON CONFLICT (cut) DO UPDATE SET raised_at = excluded.raised_at)
    SELECT cut FROM raised
""")
_LIST = text("""
    SELECT cut, raised_at FROM usage_cuts
    WHERE cut < coalesce(CAST(:below AS bigint), cut + 1)
        AND raised_at >= coalesce(CAST(:start AS timestamptz), raised_at)
        AND raised_at < coalesce(CAST(:end AS timestamptz), 'infinity')
    ORDER BY cut DESC LIMIT :limit
""")
# Intents with a smaller cut than the one read here have committed (protocol 10), so the statement sees them.
_NEWEST_COMPLETE = text("""
    SELECT least(cut, (SELECT min(cut) FROM ledger_blocks WHERE state = 'intent')) AS complete, raised_at
    FROM usage_cut WHERE id = 1
""")
_OLDEST_OPEN = text("SELECT min(cut) AS cut FROM ledger_blocks WHERE state = 'intent'")


class Cuts:
    """The cut in PostgreSQL: intents read it FOR SHARE, raising takes the row."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine

    async def current(self) -> int:
        """The number that a block opened now would carry."""
        async with autocommit(self._engine) as connection:
            return int((await connection.execute(_CURRENT)).scalar_one())

    async def raise_cut(self, min_interval_s: float, now: datetime) -> int:
        """A cutoff C: blocks opened from here on carry C or more. Returns the former one when it is young enough.

        protocol 10: the row is taken FOR UPDATE, so every intent with a smaller cut has committed when this returns.
        Safe to repeat: another cutoff, the same meaning.
        """
        async with transaction(self._engine) as connection:
            held = (await connection.execute(_LOCK)).one()
            if (now - held.raised_at).total_seconds() < min_interval_s:
                return int(held.cut)
            return int((await connection.execute(_RAISE, {"now": now})).scalar_one())

    async def list(
        self, *, limit: int, below: int | None = None, start: datetime | None = None, end: datetime | None = None
    ) -> list[RaisedCut]:
        """Up to `limit` cuts smaller than `below` that were raised in `[start, end)`, newest first."""
        arguments = {"limit": limit, "below": below, "start": start, "end": end}
        async with autocommit(self._engine) as connection:
            found = (await connection.execute(_LIST, arguments)).all()
        return [RaisedCut(cut=row.cut, raised_at=row.raised_at) for row in found]

    async def require_complete(self, cut: int, within_s: float) -> None:
        """Return once usage can be read at `cut`. Raises NotFound `cut_unknown` when it was not raised yet, and Conflict
        `cut_open` as `wait_complete`.
        """
        check_known(cut, await self.current())
        await self.wait_complete(cut, within_s)

    async def newest_complete(self, min_interval_s: float, now: datetime, within_s: float) -> int:
        """The newest cutoff that can be read. The cut is raised first unless it is young, and given `within_s` to become
        complete; a former one is taken when it does not. Safe to repeat: another cutoff, the same meaning.
        """
        complete, raised_at = await self._complete()
        if (now - raised_at).total_seconds() < min_interval_s:
            return complete
        cut = await self.raise_cut(min_interval_s, now)
        with contextlib.suppress(Conflict):  # a worker is away, or busy: what was complete before is
            await self.wait_complete(cut, within_s)
        return await self.complete()

    async def complete(self) -> int:
        """The newest cutoff that can be read as things are."""
        complete, _ = await self._complete()
        return complete

    async def _complete(self) -> tuple[int, datetime]:
        """That, and when the cut was raised last."""
        async with autocommit(self._engine) as connection:
            found = (await connection.execute(_NEWEST_COMPLETE)).one()
        return int(found.complete), found.raised_at

    async def oldest_open(self) -> int | None:
        """The smallest cut of an intent that is not done; usage below it is complete."""
        async with autocommit(self._engine) as connection:
            found = (await connection.execute(_OLDEST_OPEN)).scalar_one()
            return None if found is None else int(found)

    async def is_complete(self, cut: int) -> bool:
        """Whether every block with a smaller cut is done, for ever."""
        oldest = await self.oldest_open()
        return oldest is None or oldest >= cut

    async def wait_complete(self, cut: int, within_s: float = 60.0) -> None:
        """Return once `is_complete(cut)`; `Conflict("cut_open")` after `within_s` (a worker may be away)."""
        try:
            async with asyncio.timeout(within_s):
                while not await self.is_complete(cut):  # noqa: ASYNC110 - other processes finish the blocks
                    await asyncio.sleep(POLL_S)
        except TimeoutError as error:
            raise Conflict("cut_open", f"blocks below cut {cut} are still open after {within_s:g} s") from error
