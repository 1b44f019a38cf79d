"""A block: a range of the log, what the duplicate filter knows of it and one catalog version in, its outcomes out.

Two steps, because the filter is asked in between: `decode_block` reads and checks the events, `judge_block` decides
which of them are first copies and what they match. Both are functions of their arguments only, so a successor that
evaluates the range again gets the same rows, the same hash and the same deltas (protocol 7, 12).
"""

from collections.abc import Sequence
from datetime import date
from hashlib import blake2b
from struct import Struct as Packing

import msgspec

from domain.block_deltas import ChangeSet
from domain.catalog import UNKNOWN_CUSTOMER, Catalog
from domain.errors import Invalid
from domain.events import check_time, encode_event, encode_properties, event_time_ms, parse_events, split_events
from domain.identity import event_identity, partition_of
from domain.meters import EVALUATOR
from domain.records import MAX_RECORD_BYTES, MS_PER_DAY, MS_PER_HOUR, LogRecord, headers_of
from schemas.blocks import DuplicateEvent, ForwardedRecord, RefusedEvent, StoredColumns
from schemas.catalog import TenantLimits
from schemas.deltas import UsageChange
from schemas.events import UsageEvent
from schemas.ledger import TenantCount

__all__ = ["EVALUATOR", "Candidate", "DecodedBlock", "Outcomes", "decode_block", "judge_block", "window_days"]

RECORD_TOO_LARGE = "record_too_large"
TENANT_MISSING = "tenant_missing"
UNKNOWN_CUSTOMER_CODE = "unknown_customer"

# protocol 2: one block touches at most so many partitions (years) of usage_windows.
MAX_EVENT_YEARS = 3
MAX_MATCHES = 1_000_000

_HOUR_S = 3_600
_DAY_S = 86_400
_EPOCH_ORDINAL = date(1970, 1, 1).toordinal()
# Bytes that compare as the positions do.
_POSITION = Packing(">QI")
# The limits of a tenant that is not known yet: the real ones are asked once the event has named it.
_ANY_TIME = TenantLimits(max_event_age_s=1 << 40, max_event_ahead_s=1 << 40)


class Candidate(msgspec.Struct, frozen=True, gc=False):
    """A sound event of this partition that is stored unless an earlier copy is known."""

    record: LogRecord
    index: int
    event: UsageEvent
    tenant: str
    environment: str
    identity: bytes
    position: bytes

    @property
    def log_day(self) -> int:
        return self.record.logged_at_ms // MS_PER_DAY


class DecodedBlock(msgspec.Struct, frozen=True, kw_only=True):
    """The records of a block, read and checked at one catalog version, before the filter was asked."""

    partition: int
    records: Sequence[LogRecord]
    catalog: Catalog
    candidates: list[Candidate]
    rejected: list[RefusedEvent]
    forwarded: list[ForwardedRecord]
    forwarded_of: dict[tuple[str, str, int], int]
    longest_reject_streak: int


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

    @property
    def too_wide(self) -> bool:
        """Protocol 2: such a block is split before its intent (where it has more than one record)."""
        return self.event_years > MAX_EVENT_YEARS or len(self.stored.match_meter) > MAX_MATCHES


def window_days(catalog: Catalog) -> int:
    """A copy is a duplicate when its first stands at most so many log days before it (protocol 21).

    At least `max_event_age + 1 h` of log time, at most a day more: with 35 days, up to 37.
    """
    return -(-(catalog.widest_event_age_s + _HOUR_S) // _DAY_S)


def pack_position(offset: int, index: int) -> bytes:
    return _POSITION.pack(offset, index)


def unpack_position(position: bytes) -> tuple[int, int]:
    offset, index = _POSITION.unpack(position)
    return offset, index


def decode_block(records: Sequence[LogRecord], partition: int, partitions: int, catalog: Catalog) -> DecodedBlock:
    """Read `records` (contiguous, of one partition), check each event, set aside what belongs elsewhere."""
    decoding = _Decoding(partition, partitions, catalog)
    for record in records:
        decoding.read(record)
    return DecodedBlock(
        partition=partition,
        records=records,
        catalog=catalog,
        candidates=decoding.candidates,
        rejected=decoding.rejected,
        forwarded=decoding.forwarded,
        forwarded_of=decoding.forwarded_of,
        longest_reject_streak=decoding.longest_streak,
    )


class _Decoding:
    def __init__(self, partition: int, partitions: int, catalog: Catalog) -> None:
        self._partition = partition
        self._partitions = partitions
        self._catalog = catalog
        self.candidates: list[Candidate] = []
        self.rejected: list[RefusedEvent] = []
        self.forwarded: list[ForwardedRecord] = []
        self.forwarded_of: dict[tuple[str, str, int], int] = {}
        self.longest_streak = 0
        self._streak = 0

    def read(self, record: LogRecord) -> None:
        if len(record.value) > MAX_RECORD_BYTES:
            self._reject(record, 0, Invalid(RECORD_TOO_LARGE, "a record is at most 1 MiB long"), record.value)
            return
        foreign = record.foreign
        limits = _ANY_TIME if foreign else self._catalog.limits(record.tenant, record.environment)
        try:
            verdicts = parse_events(record.value, record.received_at_ms, limits, foreign=foreign)
        except Invalid as invalid:
            self._reject(record, 0, invalid, record.value)
            return
        misplaced: dict[tuple[str, str, int], list[UsageEvent]] = {}
        tenant, environment = record.tenant, record.environment
        partition, partitions = self._partition, self._partitions
        for index, verdict in enumerate(verdicts):
            if isinstance(verdict, Invalid):
                self._reject(record, index, verdict)
                continue
            if foreign:
                tenant, environment = verdict.tenant, verdict.environment
                if not self._belongs(record, index, verdict):
                    continue
            identity = event_identity(tenant, environment, verdict.source, verdict.id)
            target = partition_of(identity, partitions)
            if target != partition:
                misplaced.setdefault((tenant, environment, target), []).append(verdict)
                continue
            if not self._known_customer(record, index, verdict, tenant, environment):
                continue
            self._streak = 0
            self.candidates.append(
                Candidate(record, index, verdict, tenant, environment, identity, _POSITION.pack(record.offset, index))
            )
        if misplaced:
            self._forward(record, misplaced)

    def _belongs(self, record: LogRecord, index: int, event: UsageEvent) -> bool:
        """A bare event names its tenant and environment, and is judged by that tenant's limits."""
        if not event.tenant or not event.environment:
            self._reject(
                record, index, Invalid(TENANT_MISSING, "a record without headers names tenant and environment")
            )
            return False
        try:
            check_time(
                event_time_ms(event, record.received_at_ms),
                record.received_at_ms,
                self._catalog.limits(event.tenant, event.environment),
            )
        except Invalid as invalid:
            self._reject(record, index, invalid, event=event)
            return False
        return True

    def _known_customer(self, record: LogRecord, index: int, event: UsageEvent, tenant: str, environment: str) -> bool:
        if not self._catalog.limits(tenant, environment).reject_unknown_customer:
            return True
        if self._catalog.resolve(tenant, environment, event.customer) != UNKNOWN_CUSTOMER:
            return True
        refusal = Invalid(UNKNOWN_CUSTOMER_CODE, "no customer has this id, external id or alias")
        self._reject(record, index, refusal, event=event)
        return False

    def _forward(self, record: LogRecord, misplaced: dict[tuple[str, str, int], list[UsageEvent]]) -> None:
        # protocol 5: all copies of an event meet in one partition, whoever wrote them where.
        hour = record.received_at_ms // MS_PER_HOUR
        for (tenant, environment, target), events in misplaced.items():
            plain = [msgspec.structs.replace(event, tenant="", environment="") for event in events]
            self.forwarded.append(
                ForwardedRecord(
                    partition=target,
                    value=b"[" + b",".join(encode_event(event) for event in plain) + b"]",
                    headers=headers_of(record, tenant, environment),
                    events=len(events),
                )
            )
            key = (tenant, environment, hour)
            self.forwarded_of[key] = self.forwarded_of.get(key, 0) + len(events)

    def _reject(
        self,
        record: LogRecord,
        index: int,
        invalid: Invalid,
        original: bytes | None = None,
        *,
        event: UsageEvent | None = None,
    ) -> None:
        self._streak += 1
        self.longest_streak = max(self.longest_streak, self._streak)
        self.rejected.append(
            RefusedEvent(
                tenant=record.tenant or (event.tenant if event else ""),
                environment=record.environment or (event.environment if event else ""),
                source=event.source if event else "",
                id=event.id if event else "",
                code=invalid.code,
                message=invalid.message,
                received_at_ms=record.received_at_ms,
                logged_at_ms=record.logged_at_ms,
                offset=record.offset,
                index=index,
                original=bytes(split_events(record.value)[index]) if original is None else original,
            )
        )


def judge_block(decoded: DecodedBlock, known: Sequence[bytes | None]) -> Outcomes:
    """Decide each candidate and evaluate the first copies.

    `known[i]` is the earliest position (packed) within the window at which candidate i's identity is known, or None.
    protocol 13: a duplicate is what is known at an *earlier* position; what is known here or later is accepted, and
    the smaller position kept. Copies within the block are resolved among themselves first.
    """
    judging = _Judging(decoded)
    seen: dict[bytes, Candidate] = {}
    days = window_days(decoded.catalog)
    for candidate, first in zip(decoded.candidates, known, strict=True):
        if first is not None and first < candidate.position:
            judging.duplicate(candidate, first)
            continue
        earlier = seen.get(candidate.identity)
        if earlier is not None and candidate.log_day - earlier.log_day <= days:
            judging.duplicate(candidate, earlier.position)
            continue
        seen[candidate.identity] = candidate
        judging.store(candidate)
    return judging.outcomes()


class _Judging:
    def __init__(self, decoded: DecodedBlock) -> None:
        self._decoded = decoded
        self._catalog = decoded.catalog
        self._stored = _empty_columns()
        self._duplicates: list[DuplicateEvent] = []
        self._accepted: list[tuple[bytes, bytes, int]] = []
        self._changes = ChangeSet(decoded.partition)
        self._counts: dict[tuple[str, str, int], list[int]] = {}
        self._customers: dict[tuple[str, str, str], str] = {}

    def duplicate(self, candidate: Candidate, first: bytes) -> None:
        record, event = candidate.record, candidate.event
        first_offset, first_index = _POSITION.unpack(first)
        self._count(candidate.tenant, candidate.environment, record.received_at_ms)[1] += 1
        self._duplicates.append(
            DuplicateEvent(
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
            )
        )

    def store(self, candidate: Candidate) -> None:
        rows, record, event = self._stored, candidate.record, candidate.event
        tenant, environment = candidate.tenant, candidate.environment
        owner = (tenant, environment, event.customer)
        customer_id = self._customers.get(owner)
        if customer_id is None:
            customer_id = self._customers[owner] = self._catalog.resolve(*owner)
        compiled = self._catalog.compiled(tenant, environment)
        time_ms = event_time_ms(event, record.received_at_ms)
        self._accepted.append((candidate.identity, candidate.position, candidate.log_day))
        self._count(tenant, environment, record.received_at_ms)[0] += 1
        rows.tenant.append(tenant)
        rows.environment.append(environment)
        rows.source.append(event.source)
        rows.id.append(event.id)
        rows.type.append(event.type)
        rows.customer.append(event.customer)
        rows.customer_id.append(customer_id)
        rows.time_ms.append(time_ms)
        rows.received_at_ms.append(record.received_at_ms)
        rows.logged_at_ms.append(record.logged_at_ms)
        rows.properties.append(encode_properties(event.properties))
        rows.identity.append(candidate.identity)
        rows.offset.append(record.offset)
        rows.index.append(candidate.index)
        matches, issues = compiled.evaluate(event.type, event.properties)
        meters = compiled.meters
        for number, value, unique_key, dimensions in matches:
            meter = meters[number]
            rows.match_meter.append(meter.id)
            rows.match_generation.append(meter.generation)
            rows.match_value.append(value)
            rows.match_unique_key.append(unique_key)
            rows.match_dimensions.append(dimensions)
            if customer_id:
                self._changes.add(
                    (tenant, environment, customer_id, meter.id, meter.generation, time_ms // 1000),
                    value,
                    time_ms,
                    record.logged_at_ms,
                    record.offset,
                    candidate.index,
                )
        for number, code in issues:
            rows.issue_meter.append(meters[number].id)
            rows.issue_generation.append(meters[number].generation)
            rows.issue_code.append(code)
        rows.match_ends.append(len(rows.match_meter))
        rows.issue_ends.append(len(rows.issue_meter))

    def outcomes(self) -> Outcomes:
        decoded, rows = self._decoded, self._stored
        for refused in decoded.rejected:
            self._count(refused.tenant, refused.environment, refused.received_at_ms)[2] += 1
        for (tenant, environment, hour), events in decoded.forwarded_of.items():
            self._count(tenant, environment, hour * MS_PER_HOUR)[3] += events
        first, last = decoded.records[0], decoded.records[-1]
        days = {time_ms // MS_PER_DAY for time_ms in rows.time_ms}
        return Outcomes(
            version=self._catalog.version,
            first_offset=first.offset,
            last_offset=last.offset,
            first_logged_at_ms=first.logged_at_ms,
            last_logged_at_ms=last.logged_at_ms,
            max_event_ms=max(rows.time_ms, default=None),
            stored=rows,
            duplicates=self._duplicates,
            rejected=decoded.rejected,
            forwarded=decoded.forwarded,
            counts=[
                TenantCount(
                    tenant=tenant,
                    environment=environment,
                    hour=hour,
                    stored=counts[0],
                    duplicate=counts[1],
                    rejected=counts[2],
                    forwarded=counts[3],
                )
                for (tenant, environment, hour), counts in sorted(self._counts.items())
            ],
            accepted=self._accepted,
            changes=self._changes.changes(),
            row_hash=_row_hash(rows),
            event_years=len({date.fromordinal(_EPOCH_ORDINAL + day).year for day in days}),
            longest_reject_streak=decoded.longest_reject_streak,
        )

    def _count(self, tenant: str, environment: str, received_at_ms: int) -> list[int]:
        key = (tenant, environment, received_at_ms // MS_PER_HOUR)
        counts = self._counts.get(key)
        if counts is None:
            counts = self._counts[key] = [0, 0, 0, 0]
        return counts


def _empty_columns() -> StoredColumns:
    columns = StoredColumns(**{name: [] for name in StoredColumns.__struct_fields__})
    columns.match_ends.append(0)
    columns.issue_ends.append(0)
    return columns


def _row_hash(rows: StoredColumns) -> bytes:
    """blake2b-128 of all columns: what the intent promises and a successor must find again (protocol 7).

    `insert_before` and `cut` are no part of it: PostgreSQL decides them with the intent itself.
    """
    return blake2b(msgspec.msgpack.encode(rows), digest_size=16).digest()
