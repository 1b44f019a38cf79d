"""A block: a range of the log, what the duplicate filter knows of it and one catalog version in, its outcomes out.

Two steps, because the filter is asked in between: `decode_block` reads and checks the events, `judge_block` decides
which of them are first copies and what they match. Both are functions of their arguments only, so a successor that
evaluates the range again gets the same rows, the same hash and the same deltas (protocol 7, 12).
"""

from collections import Counter
from collections.abc import Sequence
from datetime import date
from hashlib import blake2b

import msgspec
import numpy as np

from domain.block_decoding import DecodedBlock, decode_block
from domain.block_matching import changes_of, match_rows
from domain.candidates import Candidate, Candidates, pack_position, unpack_position
from domain.catalog import Catalog
from domain.constant_columns import is_constant
from domain.events import encode_properties, encode_properties_of, event_time_ms
from domain.limits import MAX_EVENT_AHEAD_S
from domain.meters import EVALUATOR
from domain.records import MS_PER_DAY, MS_PER_HOUR
from schemas.blocks import DuplicateEvent, ForwardedRecord, RefusedEvent, StoredColumns
from schemas.deltas import UsageChange
from schemas.ledger import TenantCount

__all__ = [
    "EVALUATOR",
    "Candidate",
    "DecodedBlock",
    "Outcomes",
    "decode_block",
    "judge_block",
    "pack_position",
    "unpack_position",
    "window_days",
]

# protocol 2: one block touches at most so many partitions (years) of usage_windows.
MAX_EVENT_YEARS = 3
MAX_MATCHES = 1_000_000

_DAY_S = 86_400
_EPOCH_ORDINAL = date(1970, 1, 1).toordinal()


class Outcomes(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that follows from a block. `accepted` are the filter's new entries: (identity, position, log day)."""

    version: int
    first_offset: int
    last_offset: int
    first_logged_at_ms: int
    last_logged_at_ms: int
    max_event_ms: int | None
    stored: StoredColumns
    duplicates: list[DuplicateEvent]
    rejected: list[RefusedEvent]
    forwarded: list[ForwardedRecord]
    counts: list[TenantCount]
    accepted: list[tuple[bytes, bytes, int]]
    changes: list[UsageChange]
    row_hash: bytes
    event_years: int
    longest_reject_streak: int
    last_reject_streak: int

    def reject_streak(self, before: int) -> tuple[int, int]:
        """Events rejected in a row, `before` of them before this block: the longest run, and the one at its end.

        A run that this block's first events end is counted up to the block before: the brake is a bound, not a measure.
        """
        if len(self.rejected) == self.last_reject_streak and not (self.stored or self.duplicates or self.forwarded):
            whole = before + self.last_reject_streak
            return whole, whole
        return max(before, self.longest_reject_streak), self.last_reject_streak

    @property
    def too_wide(self) -> bool:
        """Protocol 2: such a block is split before its intent (where it has more than one record)."""
        return self.event_years > MAX_EVENT_YEARS or len(self.stored.match_meter) > MAX_MATCHES


def window_days(catalog: Catalog) -> int:
    """A copy is a duplicate when its first stands at most so many log days before it (protocol 21).

    At least `max_event_age` and the furthest that an event may lie ahead (a day), in log time, and at most a day more:
    with 35 days, up to 37.
    """
    return -(-(catalog.widest_event_age_s + MAX_EVENT_AHEAD_S) // _DAY_S)


def judge_block(decoded: DecodedBlock, known: Sequence[bytes | None]) -> Outcomes:
    """Decide each candidate and evaluate the first copies.

    `known[i]` is the earliest position (packed) within the window at which candidate i's identity is known, or None.
    protocol 13: a duplicate is what is known at an *earlier* position; what is known here or later is accepted, and
    the smaller position kept. Copies within the block are resolved among themselves first.
    """
    candidates = decoded.candidates
    duplicates: list[DuplicateEvent] = []
    places: Sequence[int] = range(len(candidates))
    if any(known) or len(set(candidates.identity)) < len(candidates):
        places, duplicates = _first_copies(candidates, known, window_days(decoded.catalog))
    firsts = candidates if len(places) == len(candidates) else candidates.chosen(places)
    rows = _columns(firsts, decoded.catalog)
    found = match_rows(rows, firsts.events.properties, decoded.catalog)
    return _outcomes(decoded, firsts, rows, duplicates, changes_of(rows, found, decoded.partition))


def _first_copies(
    candidates: Candidates, known: Sequence[bytes | None], days: int
) -> tuple[list[int], list[DuplicateEvent]]:
    """The places of the candidates that are stored, and the others."""
    places: list[int] = []
    duplicates: list[DuplicateEvent] = []
    seen: dict[bytes, int] = {}
    positions, logged_at_ms = candidates.position, candidates.logged_at_ms
    for place, (identity, first) in enumerate(zip(candidates.identity, known, strict=True)):
        if first is not None and first < positions[place]:
            duplicates.append(_duplicate(candidates[place], first))
            continue
        earlier = seen.setdefault(identity, place)
        if earlier != place:
            if logged_at_ms[place] // MS_PER_DAY - logged_at_ms[earlier] // MS_PER_DAY <= days:
                duplicates.append(_duplicate(candidates[place], positions[earlier]))
                continue
            seen[identity] = place
        places.append(place)
    return places, duplicates


def _duplicate(candidate: Candidate, first: bytes) -> DuplicateEvent:
    record, event = candidate.record, candidate.event
    first_offset, first_index = unpack_position(first)
    return DuplicateEvent(
        tenant=candidate.tenant,
        environment=candidate.environment,
        source=event.source,
        id=event.id,
        identity=candidate.identity,
        received_at_ms=record.received_at_ms,
        logged_at_ms=record.logged_at_ms,
        offset=record.offset,
        index=candidate.index,
        first_offset=first_offset,
        first_index=first_index,
        type=event.type,
        customer=event.customer,
        time_ms=None if event.time is None else event_time_ms(event, record.received_at_ms),
        properties=encode_properties(event.properties),
    )


def _columns(firsts: Candidates, catalog: Catalog) -> StoredColumns:
    """All columns but the matches."""
    events = firsts.events
    return StoredColumns(
        tenant=firsts.tenant,
        environment=firsts.environment,
        source=events.source,
        id=events.id,
        type=events.type,
        customer=events.customer,
        customer_id=_resolved(firsts, catalog),
        time_ms=events.time_ms,
        received_at_ms=firsts.received_at_ms,
        logged_at_ms=firsts.logged_at_ms,
        properties=encode_properties_of(events.properties),
        identity=firsts.identity,
        offset=firsts.offset,
        index=firsts.indexes,
    )


def _resolved(firsts: Candidates, catalog: Catalog) -> list[str]:
    customers = firsts.events.customer
    if len(set(firsts.tenant)) == len(set(firsts.environment)) == 1:
        tenant, environment = firsts.tenant[0], firsts.environment[0]
        known = {customer: catalog.resolve(tenant, environment, customer) for customer in set(customers)}
        return list(map(known.__getitem__, customers))
    owners = list(zip(firsts.tenant, firsts.environment, customers, strict=True))
    resolved = {owner: catalog.resolve(*owner) for owner in set(owners)}
    return [resolved[owner] for owner in owners]


def _outcomes(
    decoded: DecodedBlock,
    firsts: Candidates,
    rows: StoredColumns,
    duplicates: list[DuplicateEvent],
    changes: list[UsageChange],
) -> Outcomes:
    first, last = decoded.records[0], decoded.records[-1]
    days = np.unique(np.asarray(rows.time_ms, np.int64) // MS_PER_DAY).tolist()
    log_days = (np.asarray(rows.logged_at_ms, np.int64) // MS_PER_DAY).tolist()
    return Outcomes(
        version=decoded.catalog.version,
        first_offset=first.offset,
        last_offset=last.offset,
        first_logged_at_ms=first.logged_at_ms,
        last_logged_at_ms=last.logged_at_ms,
        max_event_ms=max(rows.time_ms, default=None),
        stored=rows,
        duplicates=duplicates,
        rejected=decoded.rejected,
        forwarded=decoded.forwarded,
        counts=_counts(decoded, rows, duplicates),
        accepted=list(zip(firsts.identity, firsts.position, log_days, strict=True)),
        changes=changes,
        row_hash=_row_hash(rows),
        event_years=len({date.fromordinal(_EPOCH_ORDINAL + day).year for day in days}),
        longest_reject_streak=decoded.longest_reject_streak,
        last_reject_streak=decoded.last_reject_streak,
    )


def _counts(decoded: DecodedBlock, rows: StoredColumns, duplicates: Sequence[DuplicateEvent]) -> list[TenantCount]:
    """Read = stored + duplicate + rejected + forwarded, per tenant, environment and receipt hour."""
    stored: Counter[tuple[str, str, int]] = Counter()
    receipts = Counter(zip(rows.tenant, rows.environment, rows.received_at_ms, strict=True))
    for (tenant, environment, received), count in receipts.items():
        stored[tenant, environment, received // MS_PER_HOUR] += count
    duplicate, rejected = (
        Counter((one.tenant, one.environment, one.received_at_ms // MS_PER_HOUR) for one in ones)
        for ones in (duplicates, decoded.rejected)
    )
    forwarded = decoded.forwarded_of
    return [
        TenantCount(
            tenant=key[0],
            environment=key[1],
            hour=key[2],
            stored=stored[key],
            duplicate=duplicate[key],
            rejected=rejected[key],
            forwarded=forwarded.get(key, 0),
        )
        for key in sorted({*stored, *duplicate, *rejected, *forwarded})
    ]


def _row_hash(rows: StoredColumns) -> bytes:
    """blake2b-128 of all columns: what the intent promises and a successor must find again (protocol 7).

    `insert_before` and `cut` are no part of it: PostgreSQL decides them with the intent itself. A column that says the
    same of all rows is hashed once, with their number.
    """
    columns = [getattr(rows, name) for name in rows.__struct_fields__]
    packed = [{len(one): one[0]} if is_constant(one) else one for one in columns]
    return blake2b(msgspec.msgpack.encode(packed), digest_size=16).digest()
