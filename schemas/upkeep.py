"""What the hourly upkeep did."""

from msgspec import Struct


class RollUpReport(Struct, frozen=True, kw_only=True):
    """`blocks` rows of the ledger became `rows`."""

    blocks: int
    rows: int
