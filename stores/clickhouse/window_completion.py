"""What `usage_windows` lacks of `events`, and its addition, computed by the server (protocol 1, last branch).

A window's row can be added to at any time: counts and sums add up, and lowest, highest, latest and the set of unique keys
do not change when they are merged again. So what is missing is the difference of the counts and sums, with the other
aggregates as `events` has them. A second run finds no difference.

The windows compared must stand still meanwhile: the caller holds a lease on their cut (stores/postgres/ledger_leases.py)
or knows that no block of it is open.
"""

from datetime import datetime, timedelta
from typing import Any

import msgspec

from stores.clickhouse.aggregates import epoch_ms
from stores.clickhouse.blocks import DeadlinePassed, insert_settings
from stores.clickhouse.client import ClickhouseClient, ClickhouseError
from stores.clickhouse.tokens import MAX_BLOCK_MATCHES

_THROWN = 395  # FUNCTION_THROW_IF_VALUE_IS_NON_ZERO
_SAMPLES = 5
_MINUTE = timedelta(minutes=1)

_KEY = "tenant, environment, meter, generation, customer, minute, dimensions"
# A match `m` of a row of `events` under its window's key: the view's own expressions (ch_migrations/0003).
_MATCH_KEY = (
    "tenant, environment, m.meter AS meter, m.generation AS generation, customer,"
    " toStartOfMinute(toDateTime(time, 'UTC')) AS minute, m.dimensions AS dimensions"
)
_COUNTS_OF_EVENTS = (
    "count() AS matches, countIf(isNotNull(m.value)) AS values,"
    " sum(toDecimal256(ifNull(m.value, toDecimal128(0, 12)), 12)) AS total"
)
_STATES_OF_EVENTS = (
    "min(m.value) AS lowest, max(m.value) AS highest,"
    " maxIf((time, logged_at, partition, `offset`, `index`, assumeNotNull(m.value)), isNotNull(m.value)) AS latest,"
    " uniqExactStateIf(m.unique_key, m.unique_key != '') AS uniques"
)
_COUNTS_OF_WINDOWS = "sum(w.matches) AS matches, sum(w.values) AS values, sum(w.total) AS total"
_POSITION = "topic_id = {topic_id:String} AND partition = {partition:UInt16} AND `offset` BETWEEN {first:UInt64} AND {last:UInt64}"
_TIME_BOUNDS = "time >= fromUnixTimestamp64Milli({start_ms:Int64}, 'UTC') AND time < fromUnixTimestamp64Milli({end_ms:Int64}, 'UTC')"
_MINUTE_BOUNDS = "minute >= toDateTime({start_s:Int64}, 'UTC') AND minute < toDateTime({end_s:Int64}, 'UTC')"


class WindowScope(msgspec.Struct, frozen=True, kw_only=True):
    """Which windows: minutes in `[start, end)` of one cut, or of all cuts below one; of a block, those that it touched."""

    start: datetime
    end: datetime
    cut: int
    below: bool = False
    block: tuple[str, int, int, int] | None = None
    """Topic id, partition, first and last offset (both included)."""


class WindowDifference(msgspec.Struct, frozen=True, kw_only=True):
    """How many windows have less than `events` (can be added), and how many have more (counted twice, or lost events)."""

    short: int
    over: int
    samples: list[str]

    @property
    def is_none(self) -> bool:
        return not self.short and not self.over


async def touched_by(
    client: ClickhouseClient, topic_id: str, partition: int, first_offset: int, last_offset: int, cut: int
) -> WindowScope | None:
    """The windows that a block's rows in `events` count in; None where it matched nothing."""
    [(matched, start, end)] = await client.rows(
        f"SELECT count(), min(time), max(time) FROM {client.reads('events')} WHERE {_POSITION} AND notEmpty(matches.meter)",
        {"topic_id": topic_id, "partition": partition, "first": first_offset, "last": last_offset},
    )
    if not matched:
        return None
    return WindowScope(
        start=start.replace(second=0, microsecond=0),
        end=end.replace(second=0, microsecond=0) + _MINUTE,
        cut=cut,
        block=(topic_id, partition, first_offset, last_offset),
    )


async def compare_windows(client: ClickhouseClient, scope: WindowScope, *, within_s: float) -> WindowDifference:
    """Windows and `events` over the same keys. Raises Unavailable where it takes longer than `within_s`."""
    of_events, of_windows, parameters = _halves(client, scope, _COUNTS_OF_EVENTS)
    [(short, over, samples)] = await client.rows(
        f"""
        SELECT countIf(em > wm), countIf(em < wm OR (em = wm AND (ev != wv OR et != wt))),
            groupArrayIf({_SAMPLES})(concat(tenant, '/', environment, ' ', meter, ' ', customer, ' ', toString(minute),
                ' cut ', toString(cut), ': ', toString(em), ' in events, ', toString(wm), ' in windows'), em != wm)
        FROM (
            SELECT {_KEY}, cut, sum(em) AS em, sum(ev) AS ev, sum(et) AS et, sum(wm) AS wm, sum(wv) AS wv, sum(wt) AS wt
            FROM (
                SELECT {_KEY}, cut, matches AS em, values AS ev, total AS et, toUInt64(0) AS wm, toUInt64(0) AS wv,
                    toDecimal256(0, 12) AS wt FROM ({of_events})
                UNION ALL
                SELECT {_KEY}, cut, toUInt64(0) AS em, toUInt64(0) AS ev, toDecimal256(0, 12) AS et, matches AS wm,
                    values AS wv, total AS wt FROM ({of_windows})
            )
            GROUP BY {_KEY}, cut
        )
        """,
        parameters,
        max_execution_time=max(within_s, 0.001),
    )
    return WindowDifference(short=int(short), over=int(over), samples=list(samples))


async def add_missing(
    client: ClickhouseClient,
    scope: WindowScope,
    *,
    token: str,
    insert_before: datetime,
    within_s: float,
    shard: int = 0,
) -> None:
    """Add to `usage_windows` what it lacks of `events` in the scope: one statement.

    Not idempotent while an earlier one may still be on its way: send it once under a deadline, and after an unknown
    outcome wait until that has passed. `token` only spares a repetition that is known to be one. Raises DeadlinePassed
    when it was late (nothing was written), and Unavailable for an unknown outcome.
    """
    of_events, of_windows, parameters = _halves(client, scope, f"{_COUNTS_OF_EVENTS}, {_STATES_OF_EVENTS}")
    settings = insert_settings(token, MAX_BLOCK_MATCHES, within_s)
    table = "usage_windows"
    if client.cluster:
        settings["insert_quorum"] = "auto"
        settings["select_sequential_consistency"] = 1
        if client.shards > 1:
            table = "usage_windows_all"
            settings |= {"insert_shard_id": shard + 1, "distributed_foreground_insert": 1}
    statement = f"""
        INSERT INTO {client.database}.{table}
            ({_KEY}, cut, matches, values, total, lowest, highest, latest, uniques)
        SELECT {_KEY}, cut, toUInt64(e.matches - w.matches), toUInt64(e.values - w.values), e.total - w.total,
            e.lowest, e.highest, e.latest, e.uniques
        FROM ({of_events}) AS e LEFT JOIN ({of_windows}) AS w USING ({_KEY}, cut)
        WHERE e.matches > w.matches AND throwIf(
            e.matches > w.matches AND nowInBlock64(3) >= fromUnixTimestamp64Milli({{insert_before_ms:Int64}}), 'too late'
        ) = 0
    """
    try:
        await client.command(
            statement,
            {**parameters, "insert_before_ms": epoch_ms(insert_before)},
            **settings,
            max_threads=1,
            join_use_nulls=0,
        )
    except ClickhouseError as error:
        if error.code == _THROWN:
            raise DeadlinePassed(f"windows {token} were to be added before {insert_before.isoformat()}") from error
        raise


async def lacks_windows(client: ClickhouseClient, scope: WindowScope) -> int:
    """Windows of a done block that hold less than that block alone put there: they were lost since.

    True at any time, whatever others are inserting: windows only grow. 0 proves nothing, more does.
    """
    parameters = _parameters(scope)
    [(found,)] = await client.rows(
        f"""
        SELECT countIf(own > held) FROM (
            SELECT {_KEY}, sum(own) AS own, sum(held) AS held FROM (
                SELECT {_MATCH_KEY}, count() AS own, toUInt64(0) AS held FROM {client.reads("events")} AS e ARRAY JOIN e.matches AS m
                WHERE {_POSITION} GROUP BY {_KEY}
                UNION ALL
                SELECT {_KEY}, toUInt64(0) AS own, sum(w.matches) AS held FROM {client.reads("usage_windows")} AS w
                WHERE {_of_windows(client, scope)} GROUP BY {_KEY}
            ) GROUP BY {_KEY}
        )
        """,
        parameters,
    )
    return int(found)


def _halves(client: ClickhouseClient, scope: WindowScope, aggregates: str) -> tuple[str, str, dict[str, Any]]:
    """The aggregates of `events` and the counts of `usage_windows`, each by key and cut, and the parameters of both."""
    cuts = "cut < {cut:UInt64}" if scope.below else "cut = {cut:UInt64}"
    where, having = f"{cuts} AND {_TIME_BOUNDS}", ""
    if scope.block is not None:
        # The first IN finds the place in the sorting key, the second takes exactly what was touched.
        where += (
            f" AND (tenant, environment, customer) IN (SELECT tenant, environment, customer FROM ({_touched(client)}))"
        )
        having = f" HAVING ({_KEY}) IN ({_touched(client)})"
    of_events = (
        f"SELECT {_MATCH_KEY}, cut, {aggregates} FROM {client.reads('events')} AS e ARRAY JOIN e.matches AS m"
        f" WHERE {where} GROUP BY {_KEY}, cut{having}"
    )
    of_windows = (
        f"SELECT {_KEY}, cut, {_COUNTS_OF_WINDOWS} FROM {client.reads('usage_windows')} AS w"
        f" WHERE {_of_windows(client, scope)} GROUP BY {_KEY}, cut"
    )
    return of_events, of_windows, _parameters(scope)


def _of_windows(client: ClickhouseClient, scope: WindowScope) -> str:
    cuts = "cut < {cut:UInt64}" if scope.below else "cut = {cut:UInt64}"
    touched = "" if scope.block is None else f" AND ({_KEY}) IN ({_touched(client)})"
    return f"{cuts} AND {_MINUTE_BOUNDS}{touched}"


def _touched(client: ClickhouseClient) -> str:
    return (
        f"SELECT DISTINCT {_MATCH_KEY} FROM {client.reads('events')} AS e ARRAY JOIN e.matches AS m WHERE {_POSITION}"
    )


def _parameters(scope: WindowScope) -> dict[str, Any]:
    found: dict[str, Any] = {
        "cut": scope.cut,
        "start_ms": epoch_ms(scope.start),
        "end_ms": epoch_ms(scope.end),
        "start_s": epoch_ms(scope.start) // 1000,
        "end_s": epoch_ms(scope.end) // 1000,
    }
    if scope.block is not None:
        topic_id, partition, first, last = scope.block
        found |= {"topic_id": topic_id, "partition": partition, "first": first, "last": last}
    return found
