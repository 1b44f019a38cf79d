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

from domain.block_decoding import Candidate, DecodedBlock, decode_block, pack_position, unpack_position
from domain.block_deltas import ChangeSet
from domain.catalog import Catalog
from domain.events import encode_properties, event_time_ms
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
    firsts: list[Candidate] = []
    duplicates: list[DuplicateEvent] = []
    seen: dict[bytes, Candidate] = {}
    days = window_days(decoded.catalog)
    for candidate, first in zip(decoded.candidates, known, strict=True):
        if first is not None and first < candidate.position:
            duplicates.append(_duplicate(candidate, first))
            continue
        earlier = seen.setdefault(candidate.identity, candidate)
        if earlier is not candidate:
            if candidate.log_day - earlier.log_day <= days:
                duplicates.append(_duplicate(candidate, earlier.position))
                continue
            seen[candidate.identity] = candidate
        firsts.append(candidate)
    rows = _columns(firsts, decoded.catalog)
    changes = _match(rows, firsts, decoded)
    return _outcomes(decoded, firsts, rows, duplicates, changes)


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


def _columns(firsts: Sequence[Candidate], catalog: Catalog) -> StoredColumns:
    """All columns but the matches: a list at a time, which costs a third of filling them row by row."""
    events = [one.event for one in firsts]
    records = [one.record for one in firsts]
    tenants = [one.tenant for one in firsts]
    environments = [one.environment for one in firsts]
    customers = [event.customer for event in events]
    owners = list(zip(tenants, environments, customers, strict=True))
    resolved = {owner: catalog.resolve(*owner) for owner in set(owners)}
    received = [record.received_at_ms for record in records]
    return StoredColumns(
        tenant=tenants,
        environment=environments,
        source=[event.source for event in events],
        id=[event.id for event in events],
        type=[event.type for event in events],
        customer=customers,
        customer_id=[resolved[owner] for owner in owners],
        time_ms=[event_time_ms(event, at) for event, at in zip(events, received, strict=True)],
        received_at_ms=received,
        logged_at_ms=[record.logged_at_ms for record in records],
        properties=[encode_properties(event.properties) for event in events],
        identity=[one.identity for one in firsts],
        offset=[record.offset for record in records],
        index=[one.index for one in firsts],
        match_ends=[0],
        match_meter=[],
        match_generation=[],
        match_value=[],
        match_unique_key=[],
        match_dimensions=[],
        issue_ends=[0],
        issue_meter=[],
        issue_generation=[],
        issue_code=[],
    )


def _match(rows: StoredColumns, firsts: Sequence[Candidate], decoded: DecodedBlock) -> ChangeSet:
    """Fill in what each event matched, and sum up the changes of known customers."""
    changes = ChangeSet(decoded.partition)
    scope: tuple[str, str] | None = None
    compiled = decoded.catalog.compiled("", "")
    matches_end = issues_end = 0
    for one, customer_id, time_ms in zip(firsts, rows.customer_id, rows.time_ms, strict=True):
        event = one.event
        if scope != (one.tenant, one.environment):
            scope = (one.tenant, one.environment)
            compiled = decoded.catalog.compiled(*scope)
        matches, issues = compiled.evaluate(event.type, event.properties)
        for number, value, unique_key, dimensions in matches:
            meter = compiled.meters[number]
            rows.match_meter.append(meter.id)
            rows.match_generation.append(meter.generation)
            rows.match_value.append(value)
            rows.match_unique_key.append(unique_key)
            rows.match_dimensions.append(dimensions)
            if customer_id:
                key = (*scope, customer_id, meter.id, meter.generation, time_ms // 1000)
                changes.add(key, value, time_ms, one.record.logged_at_ms, one.record.offset, one.index)
        for number, code in issues:
            rows.issue_meter.append(compiled.meters[number].id)
            rows.issue_generation.append(compiled.meters[number].generation)
            rows.issue_code.append(code)
        matches_end += len(matches)
        issues_end += len(issues)
        rows.match_ends.append(matches_end)
        rows.issue_ends.append(issues_end)
    return changes


def _outcomes(
    decoded: DecodedBlock,
    firsts: Sequence[Candidate],
    rows: StoredColumns,
    duplicates: list[DuplicateEvent],
    changes: ChangeSet,
) -> Outcomes:
    first, last = decoded.records[0], decoded.records[-1]
    days = {time_ms // MS_PER_DAY for time_ms in rows.time_ms}
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
        accepted=[(one.identity, one.position, one.record.logged_at_ms // MS_PER_DAY) for one in firsts],
        changes=changes.changes(),
        row_hash=_row_hash(rows),
        event_years=len({date.fromordinal(_EPOCH_ORDINAL + day).year for day in days}),
        longest_reject_streak=decoded.longest_reject_streak,
        last_reject_streak=decoded.last_reject_streak,
    )


def _counts(decoded: DecodedBlock, rows: StoredColumns, duplicates: Sequence[DuplicateEvent]) -> list[TenantCount]:
    """Read = stored + duplicate + rejected + forwarded, per tenant, environment and receipt hour."""
    stored = Counter(
        (tenant, environment, received // MS_PER_HOUR)
        for tenant, environment, received in zip(rows.tenant, rows.environment, rows.received_at_ms, strict=True)
    )
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

    `insert_before` and `cut` are no part of it: PostgreSQL decides them with the intent itself.
    """
    return blake2b(msgspec.msgpack.encode(rows), digest_size=16).digest()
