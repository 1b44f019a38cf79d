"""What must have come of the events of a plan, by the domain alone, against what is stored."""

from collections import Counter, defaultdict
from collections.abc import Sequence
from decimal import Decimal
from typing import Any

import msgspec

from domain.aggregates import fold
from domain.meters import compile_meters
from schemas.contracts import EntitlementsState
from schemas.deltas import BlockDeltas
from schemas.events import UsageEvent
from schemas.meters import Meter
from schemas.topics import ENTITLEMENTS_STATE, USAGE_DELTAS
from tests.chaos.mutants.ground import PARTITION, Ground
from tests.support.ingest import NOW, identity
from tests.support.pipeline import read_topic

_deltas = msgspec.json.Decoder(BlockDeltas)
Judged = tuple[UsageEvent, Sequence[Meter]]


async def differences(ground: Ground, *, balances: bool) -> list[str]:
    """In words; empty when everything is as it must be."""
    found = [*await _events(ground), *await _windows(ground), *await _deltas_of(ground), *await _ledger(ground)]
    return [*found, *(await _balances(ground) if balances else [])]


async def _events(ground: Ground) -> list[str]:
    rows = await ground.rows("SELECT id, identity FROM {}.events")
    stored = Counter(row[1] for row in rows)
    names = {row[1]: row[0] for row in rows}
    truth = {identity(one): one.id for one, _ in ground.sent}
    return [
        *(f"event {names[key]} stored {count} times" for key, count in stored.items() if count > 1),
        *(f"event {name} is missing" for key, name in truth.items() if key not in stored),
        *(f"event {names[key]} was never sent" for key in stored if key not in truth),
    ]


async def _windows(ground: Ground) -> list[str]:
    expected = {key: (state.matches, state.total) for key, state in _usage(ground.sent, customers=False).items()}
    rows = await ground.rows(
        "SELECT meter, customer, sum(matches), sum(total) FROM {}.usage_windows GROUP BY meter, customer"
    )
    return _compared("windows", {(row[0], row[1]): (row[2], row[3]) for row in rows}, expected)


async def _deltas_of(ground: Ground) -> list[str]:
    """Every block once, in order; their sum is the usage of known customers (protocol 3, 22)."""
    totals: defaultdict[tuple[str, str], tuple[int, Decimal]] = defaultdict(lambda: (0, Decimal(0)))
    applied = -1
    for record in await read_topic(ground.stack.bootstrap, USAGE_DELTAS, 1):
        deltas = _deltas.decode(record.value)
        if deltas.is_tick or deltas.last_offset <= applied:
            continue
        if deltas.first_offset != applied + 1:
            return [f"the deltas of {applied + 1} to {deltas.first_offset - 1} are missing"]
        applied = deltas.last_offset
        for change in deltas.changes:
            matches, total = totals[change.meter_id, change.customer_id]
            totals[change.meter_id, change.customer_id] = (matches + change.matches, total + change.total)
    last = (await ground.ledger()).last_offset
    if applied != last:
        return [f"the deltas end at {applied}, the ledger at {last}"]
    expected = {key: (state.matches, state.total) for key, state in _usage(ground.sent, customers=True).items()}
    return _compared("deltas", dict(totals), expected)


async def _ledger(ground: Ground) -> list[str]:
    blocks = await ground.stack.ledger.done_blocks_above(ground.stack.topic_id, PARTITION, -1)
    expected, found = 0, []
    for block in blocks:
        if block.intent.first_offset != expected:
            found.append(f"the ledger goes on at {block.intent.first_offset} instead of {expected}")
        expected = block.intent.last_offset + 1
    stored, counted = sum(block.intent.stored for block in blocks), await ground.rows("SELECT count() FROM {}.events")
    if stored != counted[0][0]:
        found.append(f"the ledger counts {stored} stored, there are {counted[0][0]}")
    return found


async def _balances(ground: Ground) -> list[str]:
    """The greatest version of each state (protocol 9): the usage of each customer."""
    states: dict[bytes, EntitlementsState] = {}
    for record in await read_topic(ground.stack.bootstrap, ENTITLEMENTS_STATE, 1):
        if record.key.startswith(b"@"):
            continue
        state = msgspec.json.decode(record.value, type=EntitlementsState)
        if record.key not in states or states[record.key].version <= state.version:
            states[record.key] = state
    found = {
        (counter.meter_id, state.contract.customer_id): counter.value or Decimal(0)
        for state in states.values()
        for counter in state.counters
    }
    usage = _usage(ground.sent, customers=True)
    expected = {key: Decimal(usage[key].matches) if key in usage else Decimal(0) for key in found}
    return _compared("balances", found, expected) if found else ["there are no balances"]


def _usage(sent: Sequence[Judged], *, customers: bool) -> dict[tuple[str, str], Any]:
    """By meter and customer: the reference as sent, or the customer where it is known."""
    matches: defaultdict[tuple[str, str], list[Any]] = defaultdict(list)
    for one, meters in sent:
        compiled = compile_meters(sorted(meters, key=lambda meter: meter.id))
        at_ms = int((one.time or NOW).timestamp() * 1000)
        for match in compiled.evaluate(one.type, one.properties)[0]:
            owner = f"cus_{one.customer[1:]}" if customers else one.customer
            matches[compiled.meters[match[0]].id, owner].append((match, at_ms, (0, 0, 0, 0)))
    return {key: fold(own) for key, own in matches.items()}


def _compared(name: str, found: dict[Any, Any], expected: dict[Any, Any]) -> list[str]:
    return [
        f"{name} of {'/'.join(key)}: {_text(found.get(key))} instead of {_text(expected.get(key))}"
        for key in sorted({*found, *expected})
        if found.get(key) != expected.get(key)
    ]


def _text(value: Any) -> str:
    return str(value[0]) if isinstance(value, tuple) else "nothing" if value is None else str(value)
