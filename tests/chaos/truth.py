"""What must have come of it: the log judged by `domain/` as one block a partition, held against the answers given.

None of it asks the code that counted: no ledger, no filter, no SQL.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import msgspec

from demo.verify import Differences
from domain.aggregates import LogPosition, fold
from domain.blocks import Outcomes, decode_block, judge_block
from domain.catalog import CatalogLog
from domain.events import decode_properties
from domain.meters import Match
from domain.records import read_record
from schemas.catalog import CatalogVersion
from schemas.meters import AggregateState
from tests.chaos.contracts import ENVIRONMENT, METERS, TENANT
from tests.chaos.load import Answers, Key

Position = tuple[int, int, int]  # partition, offset, index
_catalog = msgspec.json.Decoder(CatalogVersion)


class Event(msgspec.Struct, frozen=True, kw_only=True):
    """A first copy, as it must be stored; `matches` by key of the meter."""

    key: Key
    type: str
    customer: str
    time_ms: int
    properties: dict[str, Any]
    position: Position
    logged_at_ms: int
    matches: Mapping[str, Match]


class Truth:
    """`events` by identity; where duplicates and refused events stand; and how many copies of each identity there are.

    `rejected_of_tenant` are the refused ones that name our tenant: of garbage nobody can tell whose it is.
    """

    def __init__(self) -> None:
        self.events: dict[Key, Event] = {}
        self.duplicates: set[Position] = set()
        self.rejected: set[Position] = set()
        self.rejected_of_tenant = 0
        self.copies: Counter[Key] = Counter()
        self._by_customer: defaultdict[str, list[Event]] = defaultdict(list)

    def of_customer(self, references: Iterable[str]) -> list[Event]:
        return [event for reference in references for event in self._by_customer[reference]]

    def add(self, partition: int, outcomes: Outcomes, meter_keys: Mapping[str, str]) -> None:
        for event in _events(partition, outcomes, meter_keys):
            self.events[event.key] = event
            self.copies[event.key] += 1
            self._by_customer[event.customer].append(event)
        for copy in outcomes.duplicates:
            self.copies[copy.source, copy.id] += 1
            self.duplicates.add((partition, copy.offset, copy.index))
        for refused in outcomes.rejected:
            self.rejected.add((partition, refused.offset, refused.index))
            self.rejected_of_tenant += (refused.tenant, refused.environment) == (TENANT, ENVIRONMENT)


def truth_of(raw: Sequence[Any], catalog_records: Sequence[Any], partitions: int) -> Truth:
    """`raw` and `catalog_records` are all records of usage.raw and of catalog.changed."""
    log = CatalogLog()
    for record in sorted(catalog_records, key=lambda record: record.offset):
        log.append(_catalog.decode(record.value))
    catalog = log.at(log.head)
    truth = Truth()
    for partition in range(partitions):
        records = [
            read_record(one.offset, one.timestamp, one.value, one.headers) for one in raw if one.partition == partition
        ]
        if not records:
            continue
        decoded = decode_block(records, partition, partitions, catalog)
        outcomes = judge_block(decoded, [None] * len(decoded.candidates))
        tenants = {(one.tenant, one.environment) for one in decoded.candidates}
        meters = [meter for tenant in tenants for meter in catalog.compiled(*tenant).meters]
        truth.add(partition, outcomes, {meter.id: meter.key for meter in meters})
    return truth


def _events(partition: int, outcomes: Outcomes, meter_keys: Mapping[str, str]) -> Iterable[Event]:
    rows = outcomes.stored
    for row in range(len(rows)):
        matches: dict[str, Match] = {}
        for place in range(rows.match_ends[row], rows.match_ends[row + 1]):
            found = rows.match_value[place]
            quantity = None if found is None else Decimal(found)
            match = (0, quantity, rows.match_unique_key[place], rows.match_dimensions[place])
            matches[meter_keys[rows.match_meter[place]]] = match
        yield Event(
            key=(rows.source[row], rows.id[row]),
            type=rows.type[row],
            customer=rows.customer[row],
            time_ms=rows.time_ms[row],
            properties=decode_properties(rows.properties[row]),
            position=(partition, rows.offset[row], rows.index[row]),
            logged_at_ms=rows.logged_at_ms[row],
            matches=matches,
        )


def state_of(events: Iterable[Event], meter: str, *, where: Callable[[Event], bool] = lambda _: True) -> AggregateState:
    """What a meter holds of these events."""
    return fold(
        (match, event.time_ms, _log_position(event))
        for event in events
        if (match := event.matches.get(meter)) is not None and where(event)
    )


def states_by(events: Iterable[Event], meter: str, part: Callable[[Event, Match], Any]) -> dict[Any, AggregateState]:
    """What a meter holds of each part of these events."""
    parts: defaultdict[Any, list[tuple[Match, int, LogPosition]]] = defaultdict(list)
    for event in events:
        match = event.matches.get(meter)
        if match is not None:
            parts[part(event, match)].append((match, event.time_ms, _log_position(event)))
    return {name: fold(matches) for name, matches in parts.items()}


def _log_position(event: Event) -> LogPosition:
    return (event.logged_at_ms, *event.position)


def aggregation_of(meter: str) -> Any:
    return next(each["aggregation"] for each in METERS if each["key"] == meter)


def milliseconds(at: datetime) -> int:
    return round(at.timestamp() * 1000)


def answers_hold(truth: Truth, answers: Answers, differences: Differences) -> None:
    """202: in the log, as often as answered. 4xx: not in it. No answer or 503: at most as often as sent.

    And the body that stands is the first one's.
    """
    for key, known in answers.known.items():
        copies = truth.copies[key]
        most = known.accepted + known.unanswered
        if known.forwarded:
            # Under way between partitions a copy may be sent again, and the one that was misplaced is no copy.
            if known.accepted and not copies:
                differences.compare(f"copies of {key} in the log", copies, "some")
        elif not known.accepted <= copies <= most:
            differences.compare(f"copies of {key} in the log", copies, f"{known.accepted} to {most}")
        event = truth.events.get(key)
        if event is not None:
            first = known.first
            sent_at = datetime.fromisoformat(first["time"])
            stands = (event.type, event.customer, event.time_ms, event.properties)
            sent = (first["type"], first["customer"], milliseconds(sent_at), first["properties"])
            differences.compare(f"what stands of {key}", stands, sent)
    for key in answers.invalid:
        if truth.copies[key]:
            differences.compare(f"copies of {key}, which was refused", truth.copies[key], 0)
    for key in truth.events.keys() - answers.known.keys():
        differences.compare(f"{key}, which nobody sent", "stored", "absent")


def instant(ms: int) -> datetime:
    return datetime.fromtimestamp(ms / 1000, UTC)
