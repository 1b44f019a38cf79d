"""Cuts: the numbers that divide what was counted before an instant from what was counted after it (protocol 10)."""

from datetime import datetime

from msgspec import Struct


class RaisedCut(Struct, frozen=True, kw_only=True):
    """Blocks opened from `raised_at` on carry `cut` or more: cutoff `cut` is what was counted before."""

    cut: int
    raised_at: datetime
