"""Waiting for ClickHouse to have nothing left to merge by itself: merging what one scenario stored must not slow the next."""

import asyncio
import time
from collections.abc import Mapping

from bench.load import BenchError
from runtime.settings import load_settings
from stores.clickhouse.client import ClickhouseClient

MERGED_WITHIN_S = 900.0
_SEEN_IDLE, _POLL_S = 3, 0.2


async def merged(client: ClickhouseClient) -> None:
    """Returns once no merge was running several times in a row; merges are never forced."""
    deadline = time.monotonic() + MERGED_WITHIN_S
    still = 0
    while still < _SEEN_IDLE:
        [[running]] = await client.rows("SELECT count() FROM system.merges")
        still = 0 if running else still + 1
        if time.monotonic() > deadline:
            raise BenchError(f"{running} merges still run after {MERGED_WITHIN_S:g} s")
        await asyncio.sleep(_POLL_S)


async def rested(environment: Mapping[str, str]) -> None:
    """As `merged`, for the system with this environment."""
    client = ClickhouseClient(load_settings(environment).clickhouse)
    try:
        await merged(client)
    finally:
        await client.close()
