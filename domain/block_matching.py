"""What the first copies of a block match, and what that changes: evaluated a meter at a time over all of them."""

from collections import defaultdict
from collections.abc import Sequence
from decimal import Decimal
from itertools import chain, repeat
from typing import Any, TypeVar

import msgspec
import numpy as np

from domain.block_deltas import ChangeSet
from domain.catalog import Catalog
from domain.meter_columns import MeterColumn
from domain.sums import EventSeconds, integer_changes
from schemas.blocks import StoredColumns
from schemas.deltas import UsageChange
from schemas.meters import Meter

T = TypeVar("T")
Scope = tuple[str, str]


class Matched(msgspec.Struct, frozen=True, gc=False):
    """One meter's matches among events of one type: `rows` are places in the block, the rest is the column's."""

    scope: Scope
    meter: Meter
    rows: Sequence[int]
    column: MeterColumn


def match_rows(rows: StoredColumns, properties: Sequence[dict[str, Any]], catalog: Catalog) -> list[Matched]:
    """Fill in what each event matched, in the order of the log and of the meters; all of it, a meter at a time."""
    found: list[Matched] = []
    issues: list[tuple[int, Meter, str]] = []
    for (tenant, environment, event_type), places in _groups(rows).items():
        compiled = catalog.compiled(tenant, environment)
        whole = len(places) == len(rows)
        chosen = properties if whole else [properties[place] for place in places]
        for column in compiled.columns(event_type, chosen):
            meter = compiled.meters[column.number]
            at = column.rows if whole else [places[row] for row in column.rows]
            found.append(Matched((tenant, environment), meter, at, column))
            issues += [(places[row], meter, code) for row, code in column.issues]
    _interleave(rows, found)
    _note(rows, issues)
    return found


def _groups(rows: StoredColumns) -> dict[tuple[str, str, str], Sequence[int]]:
    """The places of events of one tenant, environment and type."""
    if len(rows) and all(len(set(column)) == 1 for column in (rows.tenant, rows.environment, rows.type)):
        return {(rows.tenant[0], rows.environment[0], rows.type[0]): range(len(rows))}
    kinds = zip(rows.tenant, rows.environment, rows.type, strict=True)
    places: defaultdict[tuple[str, str, str], list[int]] = defaultdict(list)
    for place, kind in enumerate(kinds):
        places[kind].append(place)
    return dict(places)


def _interleave(rows: StoredColumns, found: Sequence[Matched]) -> None:
    """From a list a meter to one flat list a column, event by event."""
    count, meters = len(rows), len(found)
    if all(len(one.rows) == count for one in found):
        # Every meter counts every event, which is what most blocks are: place them without looking at each.
        order = None
        rows.match_ends = list(range(0, count * meters + 1, meters)) if meters else [0] * (count + 1)
    else:
        places = np.concatenate([np.asarray(one.rows, np.int64) for one in found])
        order = np.argsort(places, kind="stable").tolist()
        rows.match_ends = _ends(places, count)

    def flat(columns: Sequence[Sequence[T]]) -> list[T]:
        if order is None:
            result: list[Any] = [None] * (count * meters)
            for number, column in enumerate(columns):
                result[number::meters] = column
            return result
        joined = list(chain.from_iterable(columns))
        return [joined[place] for place in order]

    lengths = [len(one.rows) for one in found]
    rows.match_meter = flat([[one.meter.id] * length for one, length in zip(found, lengths, strict=True)])
    rows.match_generation = flat([[one.meter.generation] * length for one, length in zip(found, lengths, strict=True)])
    rows.match_value = flat([one.column.values or [None] * n for one, n in zip(found, lengths, strict=True)])
    rows.match_unique_key = flat([one.column.keys or [""] * n for one, n in zip(found, lengths, strict=True)])
    rows.match_dimensions = flat([one.column.dimensions for one in found])


def _note(rows: StoredColumns, issues: list[tuple[int, Meter, str]]) -> None:
    issues.sort(key=lambda issue: issue[0])  # stable: within an event in the order of the meters
    rows.issue_ends = _ends(np.asarray([place for place, _, _ in issues], np.int64), len(rows))
    rows.issue_meter = [meter.id for _, meter, _ in issues]
    rows.issue_generation = [meter.generation for _, meter, _ in issues]
    rows.issue_code = [code for _, _, code in issues]


def _ends(places: Any, count: int) -> list[int]:
    ends: list[int] = np.bincount(places, minlength=count).cumsum().tolist()
    return [0, *ends]


def changes_of(rows: StoredColumns, found: Sequence[Matched], partition: int) -> list[UsageChange]:
    """The changes of known customers, in the order of their keys."""
    if not found:
        return []
    by_meter: defaultdict[tuple[Scope, str, int], list[Matched]] = defaultdict(list)
    for one in found:
        by_meter[one.scope, one.meter.id, one.meter.generation].append(one)
    seconds = EventSeconds(rows, partition)
    plain = ChangeSet(partition)
    changes: list[UsageChange] = []
    for (scope, meter, generation), parts in by_meter.items():
        if all(one.column.integers for one in parts):
            columns = [(one.rows, one.column.values) for one in parts]
            changes += integer_changes(seconds, scope, (meter, generation), columns)
        else:
            for one in parts:
                _add(plain, rows, one)
    changes += plain.changes()
    return sorted(
        changes,
        key=lambda one: (one.tenant, one.environment, one.customer_id, one.meter_id, one.generation, one.second),
    )


def _add(changes: ChangeSet, rows: StoredColumns, one: Matched) -> None:
    meter, values = one.meter, one.column.values or repeat(None)
    for row, value in zip(one.rows, values, strict=False):
        if customer_id := rows.customer_id[row]:
            time_ms = rows.time_ms[row]
            key = (*one.scope, customer_id, meter.id, meter.generation, time_ms // 1000)
            changes.add(
                key,
                None if value is None else Decimal(value),
                time_ms,
                rows.logged_at_ms[row],
                rows.offset[row],
                rows.index[row],
            )
