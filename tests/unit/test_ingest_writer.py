"""When a block may be sent under its token, and when not any more (protocol 1)."""

import asyncio
from datetime import timedelta
from types import SimpleNamespace
from typing import Any, cast

import pytest

from runtime.clock import SystemClock
from runtime.settings import IngestSettings, Settings
from schemas.ledger import LedgerBlock
from streams.ingest_errors import OldIntentError
from streams.ingest_writer import BlockWriter
from tests.support.ledgers import intent

HORIZON_S = 100.0


async def test_a_worker_that_tries_for_longer_than_tokens_are_remembered_leaves_the_block_to_a_look() -> None:
    now = SystemClock().now()
    deps: Any = SimpleNamespace(
        settings=Settings(ingest=IngestSettings(token_horizon_s=HORIZON_S)),
        clock=SystemClock(),
        budget_s=0.0,
        inserts=asyncio.Semaphore(1),
        clickhouse=None,  # nothing is sent
        ledger=None,
    )
    renewed = LedgerBlock(
        intent=intent(0, 9),
        epoch=1,
        cut=1,
        state="intent",
        intent_at=now - timedelta(seconds=HORIZON_S + 1),
        insert_before=now + timedelta(seconds=30),
    )
    with pytest.raises(OldIntentError):
        await BlockWriter(deps, 0, 1, cast("Any", None)).store(renewed, cast("Any", SimpleNamespace(token="t/0/0-9")))
