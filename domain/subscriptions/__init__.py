"""The life of a subscription. The modules of this package are its parts; the names here are what closings ask for."""

from domain.subscriptions.periods import EARLIEST_START, period_anchor, period_to_close, status_at, validate_start

__all__ = ["EARLIEST_START", "period_anchor", "period_to_close", "status_at", "validate_start"]
