"""SQL of levels: from changes in their order to sums that `domain.metering.LevelCurve` takes."""

from collections.abc import Sequence

_ORDER = "time, logged_at, partition, `offset`, `index`"
# Of matches `m` of events: their place in the order of a level's changes, when they came, and the level from then on.
RANKED = f"({_ORDER}) AS rank, toUnixTimestamp64Milli(time) AS at, toDecimal256(assumeNotNull(m.value), 12) AS value"
# Of matches `m` of events: what `usage_windows` has as `latest`.
CARRIED = f"({_ORDER}, assumeNotNull(m.value)) AS latest"


def summed(changes: str, keys: Sequence[str]) -> str:
    """A statement of rows (keys, changes, added, moment): the sums of `changes`, which has `keys`, `series`, `rank`, `at`
    and `value`. A change adds what it sets beyond the value before it in its series; the first one beyond 0.
    """
    names = ", ".join(keys)
    added = (
        "value - lagInFrame(value, 1, toDecimal256(0, 12)) "
        "OVER (PARTITION BY series ORDER BY rank ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW)"
    )
    return (
        f"SELECT {names}, count() AS changes, sum(change) AS added, sum(change * at) AS moment "
        f"FROM (SELECT {names}, at, {added} AS change FROM ({changes})) GROUP BY {names}"
    )


def newest(sources: str, keys: Sequence[str], selected: Sequence[str]) -> str:
    """Changes, as `summed` takes them, out of `sources` (rows of `keys`, `series`, `latest`): the newest of each series.

    `selected` are the columns that stand before `series`.
    """
    names = ", ".join([*keys, "series"])
    return (
        f"SELECT {', '.join([*selected, 'series'])}, (newest.1, newest.2, newest.3, newest.4, newest.5) AS rank, "
        "toInt64(0) AS at, toDecimal256(newest.6, 12) AS value "
        f"FROM (SELECT {names}, max(latest) AS newest FROM ({sources}) GROUP BY {names})"
    )
