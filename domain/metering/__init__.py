"""What a meter's matches come to, computed from the events themselves: what windows, recounts and backfills agree with."""

from domain.metering.curves import NO_CHANGES, LevelCurve, LevelSums, weighed
from domain.metering.levels import level_at, level_seconds, weighted_sum
from domain.metering.matches import MeterEvent, Placed, matches_of
from domain.metering.measures import measured
from domain.metering.percentiles import percentile
from domain.metering.prorated import prorated_sum, prorated_unique_count
from domain.metering.usage import rolling_usage, session_usage, usage_of

__all__ = [
    "NO_CHANGES",
    "LevelCurve",
    "LevelSums",
    "MeterEvent",
    "Placed",
    "level_at",
    "level_seconds",
    "matches_of",
    "measured",
    "percentile",
    "prorated_sum",
    "prorated_unique_count",
    "rolling_usage",
    "session_usage",
    "usage_of",
    "weighed",
    "weighted_sum",
]
