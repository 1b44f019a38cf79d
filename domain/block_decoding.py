"""The first half of a block: its records read, each event checked, what belongs elsewhere set aside."""

from collections.abc import Callable, Sequence

import msgspec

from domain.candidates import Candidates
from domain.catalog import UNKNOWN_CUSTOMER, Catalog
from domain.errors import Invalid
from domain.event_names import EventName, read_name
from domain.events import check_time, encode_event, event_time_ms, parse_events, split_events
from domain.identity import all_belong, identities_in, identities_of, partition_of
from domain.records import MAX_RECORD_BYTES, MS_PER_HOUR, LogRecord, headers_of
from domain.sound_records import read_sound
from schemas.blocks import ForwardedRecord, RefusedEvent
from schemas.catalog import TenantLimits
from schemas.events import UsageEvent

RECORD_TOO_LARGE = "record_too_large"
FORMAT_UNKNOWN = "format_unknown"
TENANT_MISSING = "tenant_missing"
UNKNOWN_CUSTOMER_CODE = "unknown_customer"

# More than sound events fit into a record of MAX_RECORD_BYTES: what has more is a record of commas.
MAX_RECORD_EVENTS = 32_768

# Up to a handful of events in a record one verdict after the other is faster than columns of them.
_FEW_BYTES = 750
# The limits of a tenant that is not known yet: the real ones are asked once the event has named it.
_ANY_TIME = TenantLimits(max_event_age_s=1 << 40, max_event_ahead_s=1 << 40)


class DecodedBlock(msgspec.Struct, frozen=True, kw_only=True):
    """The records of a block, read and checked at one catalog version, before the filter was asked."""

    partition: int
    records: Sequence[LogRecord]
    catalog: Catalog
    candidates: Candidates
    rejected: list[RefusedEvent]
    forwarded: list[ForwardedRecord]
    forwarded_of: dict[tuple[str, str, int], int]
    longest_reject_streak: int
    last_reject_streak: int


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
        last_reject_streak=decoding.last_streak,
    )


class _Decoding:
    def __init__(self, partition: int, partitions: int, catalog: Catalog) -> None:
        self._partition = partition
        self._partitions = partitions
        self._catalog = catalog
        self._judge = catalog
        self.candidates = Candidates()
        self.rejected: list[RefusedEvent] = []
        self.forwarded: list[ForwardedRecord] = []
        self.forwarded_of: dict[tuple[str, str, int], int] = {}
        self.longest_streak = 0
        self._streak = 0
        self._identity_of: dict[tuple[str, str], Callable[[str, str], bytes]] = {}
        self._split_of: LogRecord | None = None
        self._split: list[msgspec.Raw] = []

    def read(self, record: LogRecord) -> None:
        try:
            self._check(record)
            if not record.foreign and len(record.value) > _FEW_BYTES and self._read_sound(record):
                return
            verdicts = self._verdicts(record)
        except Invalid as invalid:
            self._reject(record, 0, invalid, record.value)
            return
        foreign = record.foreign
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
            identity = self._identities(tenant, environment)(verdict.source, verdict.id)
            target = partition_of(identity, partitions)
            if target != partition:
                self._streak = 0
                misplaced.setdefault((tenant, environment, target), []).append(verdict)
                continue
            if not self._known_customer(record, index, verdict, tenant, environment):
                continue
            self._streak = 0
            time_ms = event_time_ms(verdict, record.received_at_ms)
            self.candidates.add(record, index, verdict, time_ms, (tenant, environment, identity))
        if misplaced:
            self._forward(record, misplaced)

    def _read_sound(self, record: LogRecord) -> bool:
        """A trusted record all of whose events are candidates, the quick way. False: nothing was done."""
        limits = self._judge.limits(record.tenant, record.environment)
        events = read_sound(record.value, record.received_at_ms, limits)
        if events is None or len(events.id) > MAX_RECORD_EVENTS:
            return False
        if limits.reject_unknown_customer and not all(
            self._judge.resolve(record.tenant, record.environment, customer) != UNKNOWN_CUSTOMER
            for customer in set(events.customer)
        ):
            return False
        identities = identities_of(record.tenant, record.environment, events.source, events.id)
        if not all_belong(identities, self._partition, self._partitions):
            return False
        if identities:
            self._streak = 0
            self.candidates.add_all(record, events, identities)
        return True

    def _check(self, record: LogRecord) -> None:
        """Raises Invalid where the record is refused as a whole, whatever is in it."""
        if len(record.value) > MAX_RECORD_BYTES:
            raise Invalid(RECORD_TOO_LARGE, "a record is at most 1 MiB long")
        if not record.readable:
            raise Invalid(FORMAT_UNKNOWN, "the header names another format than 1")
        self._judge = self._catalog.accepted_at(record.version)

    def _verdicts(self, record: LogRecord) -> list[UsageEvent | Invalid]:
        """On each event of the record. Raises Invalid where it is no JSON, or holds too many of them."""
        foreign = record.foreign
        limits = _ANY_TIME if foreign else self._judge.limits(record.tenant, record.environment)
        verdicts = parse_events(record.value, record.received_at_ms, limits, foreign=foreign)
        if len(verdicts) > MAX_RECORD_EVENTS:
            raise Invalid(RECORD_TOO_LARGE, f"a record holds at most {MAX_RECORD_EVENTS} events")
        return verdicts

    @property
    def last_streak(self) -> int:
        """Rejections since the last event that was none."""
        return self._streak

    def _identities(self, tenant: str, environment: str) -> Callable[[str, str], bytes]:
        found = self._identity_of.get((tenant, environment))
        if found is None:
            found = self._identity_of[tenant, environment] = identities_in(tenant, environment)
        return found

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
                self._judge.limits(event.tenant, event.environment),
            )
        except Invalid as invalid:
            self._reject(record, index, invalid)
            return False
        return True

    def _known_customer(self, record: LogRecord, index: int, event: UsageEvent, tenant: str, environment: str) -> bool:
        if not self._judge.limits(tenant, environment).reject_unknown_customer:
            return True
        if self._judge.resolve(tenant, environment, event.customer) != UNKNOWN_CUSTOMER:
            return True
        refusal = Invalid(UNKNOWN_CUSTOMER_CODE, "no customer has this id, external id or alias")
        self._reject(record, index, refusal)
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

    def _reject(self, record: LogRecord, index: int, invalid: Invalid, original: bytes | None = None) -> None:
        self._streak += 1
        self.longest_streak = max(self.longest_streak, self._streak)
        sent = self._sent(record, index) if original is None else original
        name = read_name(sent) if len(sent) <= MAX_RECORD_BYTES else EventName()
        # Half an owner is none: such an event is nobody's, and the operator's to see.
        owned = bool(name.tenant and name.environment)
        self.rejected.append(
            RefusedEvent(
                tenant=record.tenant or (name.tenant if owned else ""),
                environment=record.environment or (name.environment if owned else ""),
                source=name.source,
                id=name.id,
                code=invalid.code,
                message=invalid.message,
                received_at_ms=record.received_at_ms,
                logged_at_ms=record.logged_at_ms,
                offset=record.offset,
                index=index,
                original=sent,
            )
        )

    def _sent(self, record: LogRecord, index: int) -> bytes:
        if self._split_of is not record:  # once a record, not once a refusal
            self._split_of, self._split = record, split_events(record.value)
        return bytes(self._split[index])
