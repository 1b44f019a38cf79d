"""What is done every hour, whether or not anything is billed. Each activity may be killed at any point and run again."""

from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Any

import structlog
from sqlalchemy.ext.asyncio import AsyncEngine
from temporalio import activity

from runtime import metrics
from runtime.clock import Clock
from runtime.settings import ClosingSettings, LedgerSettings
from schemas.upkeep import RollUpReport
from stores.postgres.cuts import Cuts
from stores.postgres.roll_up import roll_up

_log = structlog.get_logger(__name__)


class UpkeepActivities:
    """Holds the ledger. Errors are those of domain/errors.py: Temporal repeats `Unavailable` and no other kind."""

    def __init__(self, *, engine: AsyncEngine, clock: Clock, closing: ClosingSettings, ledger: LedgerSettings) -> None:
        self._engine = engine
        self._clock = clock
        self._closing = closing
        self._ledger = ledger

    @property
    def all(self) -> Sequence[Callable[..., Any]]:
        return (self.raise_cut, self.roll_up_ledger)

    @activity.defn
    async def raise_cut(self) -> int:
        """The newest cut: a new one, unless one is younger than the least interval.

        Safe to repeat: another cutoff, the same meaning.
        """
        return await Cuts(self._engine).raise_cut(self._closing.cut_min_interval_s, self._clock.now())

    @activity.defn
    async def roll_up_ledger(self) -> RollUpReport:
        """Rolls up what was done longer ago than `roll_up_after_s`. Safe to repeat: it goes on where it was stopped."""
        before = self._clock.now() - timedelta(seconds=self._ledger.roll_up_after_s)
        blocks = rows = 0
        async for step in roll_up(self._engine, before):
            blocks, rows = blocks + step.blocks, rows + step.rows
            metrics.ledger_rolled_up.inc(step.blocks - step.rows)
        if blocks:
            _log.info("ledger_rolled_up", blocks=blocks, rows=rows, before=before.isoformat())
        return RollUpReport(blocks=blocks, rows=rows)
