"""What is asked of a meter's matches: an aggregation, and what it has to know besides."""

from msgspec import Struct

from schemas.meters import Aggregation, Percent


class Measure(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`percent` is read by `percentile` alone, `carry` by `weighted_sum`: whether the level from before the range counts."""

    aggregation: Aggregation
    percent: Percent = 50
    carry: bool = True
