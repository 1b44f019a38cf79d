"""Usage changes of whole numbers, summed up a column at a time: what `ChangeSet` gives, and as exact.

Values below 10**18 fit a machine word, and a sum of them is taken by words only where it fits one too.
"""

from collections.abc import Iterable, Sequence
from decimal import Decimal
from itertools import repeat
from typing import Any

import numpy as np

from schemas.blocks import StoredColumns
from schemas.deltas import Latest, UsageChange

_WORD = 2**63 - 1
_ZERO = Decimal(0)

# The places of a meter's matches in the block, and their values; None for a meter without values.
Column = tuple[Sequence[int], Sequence[Any] | None]


class EventSeconds:
    """The events of a block in the order of (customer, second), and within it in that of `latest`; unknown customers
    are left out.
    """

    def __init__(self, rows: StoredColumns, partition: int) -> None:
        self.rows = rows
        self.partition = partition
        codes = {customer: number for number, customer in enumerate(dict.fromkeys(rows.customer_id))}
        code = np.fromiter(map(codes.__getitem__, rows.customer_id), np.int64, len(rows))
        self._customers = list(codes)
        self.time_ms = np.asarray(rows.time_ms, np.int64)
        second = self.time_ms // 1000
        first = int(second.min(initial=0)) if len(rows) else 0
        span = (int(second.max()) - first + 1) if len(rows) else 1
        self._first, self._span = first, span
        self.key = code * span + (second - first)
        order = np.lexsort((np.asarray(rows.logged_at_ms, np.int64), self.time_ms, self.key))
        unknown = codes.get("")
        self._whole = unknown is None
        self.order = order if unknown is None else order[code[order] != unknown]

    def of(self, rows: Any) -> Any:
        """The places of `rows` (ascending) in the order."""
        if self._whole and len(rows) == len(self.order):
            return self.order
        chosen = np.zeros(len(self.key), bool)
        chosen[rows] = True
        return self.order[chosen[self.order]]

    def name(self, key: int) -> tuple[str, int]:
        """Customer id and second."""
        code, second = divmod(key, self._span)
        return self._customers[code], self._first + second


def integer_changes(
    seconds: EventSeconds, scope: tuple[str, str], meter: tuple[str, int], columns: Sequence[Column]
) -> list[UsageChange]:
    """The changes of one meter (id, generation) of one tenant and environment whose values are all small integers."""
    tenant, environment = scope
    meter_id, generation = meter
    places = np.concatenate([np.asarray(rows, np.int64) for rows, _ in columns])
    order = seconds.of(places)
    if not len(order):
        return []
    keys = seconds.key[order]
    starts = np.concatenate(([0], np.flatnonzero(keys[1:] != keys[:-1]) + 1))
    ends = np.concatenate((starts[1:], [len(order)]))
    names = [seconds.name(key) for key in keys[starts].tolist()]
    counts = (ends - starts).tolist()
    valued = columns[0][1] is not None
    totals, lowest, highest, latest = _summed(seconds, places, columns, order, starts, ends) if valued else _nothing()
    return [
        UsageChange(
            tenant=tenant,
            environment=environment,
            customer_id=customer,
            meter_id=meter_id,
            generation=generation,
            second=second,
            matches=count,
            values=count if valued else 0,
            total=total,
            lowest=least,
            highest=most,
            latest=last,
        )
        for (customer, second), count, total, least, most, last in zip(
            names, counts, totals, lowest, highest, latest, strict=False
        )
    ]


_Sums = tuple[Iterable[Decimal], Iterable[Decimal | None], Iterable[Decimal | None], Iterable[Latest | None]]


def _nothing() -> _Sums:
    """Of matches without values."""
    return repeat(_ZERO), repeat(None), repeat(None), repeat(None)


def _summed(seconds: EventSeconds, places: Any, columns: Sequence[Column], order: Any, starts: Any, ends: Any) -> _Sums:
    """Total, lowest, highest and latest of each group, which begin at `starts` and end at `ends` of `order`."""
    values = np.zeros(len(seconds.key), np.int64)
    values[places] = np.concatenate([np.asarray(column, np.int64) for _, column in columns])
    values = values[order]
    largest = max(int(values.max()), -int(values.min()))
    summed = values if largest * len(values) <= _WORD else values.astype(object)
    return (
        map(Decimal, np.add.reduceat(summed, starts).tolist()),
        map(Decimal, np.minimum.reduceat(values, starts).tolist()),
        map(Decimal, np.maximum.reduceat(values, starts).tolist()),
        _latest(seconds, order[ends - 1], values[ends - 1]),
    )


def _latest(seconds: EventSeconds, places: Any, values: Any) -> list[Latest]:
    rows, partition = seconds.rows, seconds.partition
    return [
        Latest(
            time_ms=rows.time_ms[place],
            log_ms=rows.logged_at_ms[place],
            partition=partition,
            offset=rows.offset[place],
            index=rows.index[place],
            value=Decimal(value),
        )
        for place, value in zip(places.tolist(), values.tolist(), strict=True)
    ]
