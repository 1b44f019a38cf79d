"""How many deduplication tokens the tables must remember (protocol 1 and 2).

`window >= 2 x H x blocks/s x partitions` for `events`, where H is the age up to which an intent is completed under its
token and a partition closes at most one block per `block_age_s` (a block that closes earlier, by count or size,
takes longer than that to read and insert). `usage_windows` takes one token per year partition that a block touches:
the same, times `MAX_BLOCK_YEARS`.
"""

import math
import re

import msgspec

from runtime.settings import Settings
from stores.clickhouse.client import ClickhouseClient

# protocol 2: a block over more event years is split before its intent.
MAX_BLOCK_YEARS = 3
# protocol 2: above about a million rows the view's output is two parts, hence two tokens.
MAX_BLOCK_MATCHES = 1_000_000
MAX_BLOCK_BYTES = 200 << 20
# Tokens are small; fewer than this would save nothing and make a raised block rate a migration.
MIN_WINDOW = 10_000
_HORIZONS = 2


class TokenWindowTooSmallError(RuntimeError):
    """A table forgets tokens before a block may last be completed under one: blocks could be counted twice."""


class TokenWindows(msgspec.Struct, frozen=True, kw_only=True):
    """Tokens to be kept per table; on a cluster also for how many seconds."""

    events: int
    windows: int
    kept_s: int


def token_windows(settings: Settings) -> TokenWindows:
    """The windows that these settings need."""
    ingest = settings.ingest
    blocks_per_s = settings.kafka.raw_partitions / settings.block_age_s
    events = max(MIN_WINDOW, math.ceil(_HORIZONS * ingest.token_horizon_s * blocks_per_s))
    return TokenWindows(
        events=events,
        windows=events * MAX_BLOCK_YEARS,
        kept_s=max(3600, math.ceil(2 * _HORIZONS * ingest.token_horizon_s)),
    )


async def read_token_windows(client: ClickhouseClient) -> dict[str, int]:
    """Table name -> tokens it remembers, as the server has it (0 when the setting is absent)."""
    found = await client.rows(
        "SELECT name, engine_full FROM system.tables "
        "WHERE database = {database:String} AND name IN ('events', 'usage_windows')",
        {"database": client.database},
    )
    setting = "replicated_deduplication_window" if client.cluster else "non_replicated_deduplication_window"
    return {name: _setting(engine, setting) for name, engine in found}


def _setting(engine_full: str, name: str) -> int:
    match = re.search(rf"\b{name} = (\d+)", engine_full)
    return int(match[1]) if match else 0


async def check_token_windows(client: ClickhouseClient, needed: TokenWindows) -> None:
    """Raises TokenWindowTooSmallError unless both tables remember enough. protocol 1: asserted at start."""
    kept = await read_token_windows(client)
    for table, tokens in (("events", needed.events), ("usage_windows", needed.windows)):
        if kept.get(table, 0) < tokens:
            raise TokenWindowTooSmallError(
                f"{table} remembers {kept.get(table, 0)} deduplication tokens, these settings need {tokens}: "
                "run `meterstream migrate`"
            )
