"""The rules of balances, one by one: guards, gaps, contracts, periods, thresholds, versions."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest

from domain import balances as fold
from domain.counters import value_of, wanted
from domain.delta_progress import DeltaGapError, ReadPosition, advanced, first_gap, follows, lost, tenure_after
from schemas.balances import CustomerBalances, DeltasProgress
from schemas.contracts import CustomerContract, Entitlement
from schemas.deltas import BlockDeltas, UsageChange
from schemas.periods import FOREVER
from schemas.usage import UsageState
from streams.balances_table import newest
from tests.support.entitlements import BEGAN, NOW, held

NAME = "acme/live/cus_1"


def contract(
    *entitlements: Entitlement, version: int = 1, references: tuple[str, ...] = ("cus_1",)
) -> CustomerContract:
    return CustomerContract(
        version=version,
        tenant="acme",
        environment="live",
        customer_id="cus_1",
        references=list(references),
        entitlements=list(entitlements),
    )


def seeded(given: CustomerContract, usage: int = 0, guard: dict[int, int] | None = None) -> CustomerBalances:
    balances = fold.with_contract(None, given, NOW)
    for key, aggregation in fold.to_read(balances, NOW).items():
        state = UsageState(matches=usage, values=usage, total=Decimal(usage), uniques=usage)
        balances = fold.with_reading(balances, key, aggregation, state, guard or {})
    return balances


def block(first: int, last: int, second: datetime = NOW, total: int = 1, partition: int = 0) -> BlockDeltas:
    change = UsageChange(
        tenant="acme",
        environment="live",
        customer_id="cus_1",
        meter_id="met_1",
        generation=1,
        second=int(second.timestamp()),
        matches=1,
        values=1,
        total=Decimal(total),
    )
    return BlockDeltas(
        topic_id="t",
        partition=partition,
        first_offset=first,
        last_offset=last,
        version=1,
        as_of_ms=0,
        changes=[change],
    )


def after(balances: CustomerBalances, deltas: BlockDeltas) -> CustomerBalances:
    changes = fold.by_customer(deltas.changes)[NAME]
    return fold.with_block(balances, deltas.partition, deltas.last_offset, changes)


def totals(balances: CustomerBalances) -> list[Decimal | None]:
    return [value_of(one) for one in balances.counters]


def test_a_block_is_applied_once_and_only_in_its_turn() -> None:
    progress = DeltasProgress(version=(0, 0), topic_id="t", applied={0: 9})
    assert follows(progress, block(10, 12))
    assert not follows(progress, block(5, 9))
    for early in (block(11, 12), block(9, 12), block(1, 1, partition=1)):
        with pytest.raises(DeltaGapError):
            follows(progress, early)
    with pytest.raises(DeltaGapError):
        follows(DeltasProgress(version=(0, 0), topic_id="another", applied={}), block(0, 0))
    assert advanced(progress, block(10, 12)).applied == {0: 12}


def test_what_the_guard_covers_changes_nothing_of_that_counter() -> None:
    balances = seeded(contract(held()), usage=7, guard={0: 5})
    assert after(balances, block(3, 5)) is balances
    assert totals(after(balances, block(6, 6))) == [8, 7]
    assert totals(after(balances, block(0, 0, partition=1))) == [8, 7]


def test_a_late_event_goes_to_the_period_of_its_time_or_nowhere() -> None:
    balances = seeded(contract(held()))
    assert after(balances, block(0, 0, BEGAN - timedelta(seconds=1))) is balances
    next_month = datetime(2026, 4, 10, tzinfo=UTC)
    assert totals(after(balances, block(0, 0, next_month - timedelta(seconds=1)))) == [1, 0]
    assert totals(after(balances, block(0, 0, next_month))) == [0, 1]


def test_the_next_period_has_its_counter_ahead_of_time() -> None:
    keys, until = wanted(contract(held(), held(usage_period="never", meter_id="met_2")), NOW)
    ends = sorted(key.end_s for key in keys)
    next_month = datetime(2026, 4, 10, tzinfo=UTC)
    assert until == next_month
    assert ends == [int(at.timestamp()) for at in (next_month, datetime(2026, 5, 10, tzinfo=UTC), FOREVER)]


def test_the_first_period_begins_with_the_entitlement() -> None:
    """Calendar billing: the anchor lies at the next first of the month, what was used before the start is not counted."""
    stub = held(anchor_at=datetime(2026, 4, 1, tzinfo=UTC))
    keys, _ = wanted(contract(stub), NOW)
    assert min(key.start_s for key in keys) == int(BEGAN.timestamp())
    assert min(key.end_s for key in keys) == int(datetime(2026, 4, 1, tzinfo=UTC).timestamp())


def test_the_newest_contract_wins_and_keeps_the_counters_it_still_selects() -> None:
    balances = seeded(contract(held(), version=5), usage=7)
    assert fold.with_contract(balances, contract(version=4), NOW) is balances
    raised = fold.with_contract(balances, contract(held(limit=Decimal(500)), version=6), NOW)
    assert raised.counters == balances.counters
    assert fold.to_read(raised, NOW) == {}
    assert fold.with_contract(balances, contract(version=6), NOW).counters == ()


def test_another_name_of_the_customer_has_every_counter_read_again() -> None:
    balances = seeded(contract(held()), usage=7)
    renamed = fold.with_contract(balances, contract(held(), version=2, references=("cus_1", "alias")), NOW)
    assert set(fold.to_read(renamed, NOW)) == {one.key for one in balances.counters}


def test_a_touched_unique_count_waits_for_its_read() -> None:
    balances = after(seeded(contract(held(aggregation="unique_count")), usage=7), block(0, 0))
    [key] = fold.to_read(balances, NOW)
    assert totals(balances) == [7, 7]
    read = fold.with_reading(balances, key, "unique_count", UsageState(uniques=8), {0: 3})
    assert totals(read) == [8, 7]
    assert after(read, block(3, 3)) is read


def test_a_threshold_is_told_once_however_usage_got_there() -> None:
    balances, told = fold.with_crossings(seeded(contract(held()), usage=80), NOW)
    assert [one.threshold_percent for one in told] == [50, 80, 50, 80]  # of this period and of the next one
    balances, told = fold.with_crossings(balances, NOW)
    assert told == []
    balances, told = fold.with_crossings(after(balances, block(0, 0, total=20)), NOW)
    assert [one.threshold_percent for one in told] == [100]
    assert fold.threshold_key(told[0]).startswith("acme/live/cus_1/tokens/sub_1/")


def test_what_ended_is_forgotten_with_what_was_told_of_it() -> None:
    balances, _ = fold.with_crossings(seeded(contract(held()), usage=80), NOW)
    next_month = datetime(2026, 4, 10, tzinfo=UTC)
    assert fold.pruned(balances, next_month + timedelta(minutes=59)) is balances
    later = fold.pruned(balances, next_month + fold.KEPT_AFTER_END)
    assert [one.key.start_s for one in later.counters] == [int(next_month.timestamp())]
    assert len(later.crossed) == 2
    assert [key.start_s for key in fold.to_read(later, next_month)] == [
        int(datetime(2026, 5, 10, tzinfo=UTC).timestamp())
    ]


def test_a_recovery_keeps_the_greatest_version_not_the_last_record() -> None:
    def record(key: bytes, *version: int) -> Any:
        value = msgspec.json.encode({"version": version})
        return SimpleNamespace(message=SimpleNamespace(partition=0, key=key, value=value))

    first, second, zombie = record(b"a", 1, 0), record(b"a", 3, 0), record(b"a", 2, 9)
    other, known, older = record(b"b", 1, 1), record(b"c", 5, 1), record(b"c", 4, 9)
    stored = {b"c": msgspec.json.encode({"version": (5, 0)})}
    kept = newest([first, second, zombie, other, older, known], lambda event: stored.get(event.message.key))
    assert kept == [first, second, other, known]


def test_each_owner_s_versions_are_above_those_of_every_earlier_one() -> None:
    fresh = tenure_after(None, 1, 0)
    known = DeltasProgress(version=(fresh, 70), topic_id="t", applied={}, generation=1)
    # The second owner has written nothing that the third could have recovered.
    assert fresh < tenure_after(known, 2, 0) < tenure_after(known, 3, 0)
    # A group that was forgotten begins its generations anew, and a lost table its tenures.
    assert tenure_after(msgspec.structs.replace(known, generation=9), 2, 0) > fresh
    assert tenure_after(None, 4, 8) > 8


def test_state_that_says_less_than_was_acknowledged_is_lost() -> None:
    start, read = ReadPosition(committed=None, begins_at=0), ReadPosition(committed=7, begins_at=2)
    assert lost(None, deltas=start, contracts=start) == ""
    assert "nothing was recovered" in lost(None, deltas=read, contracts=start)
    assert "nothing was recovered" in lost(None, deltas=start, contracts=read)
    progress = DeltasProgress(version=(1, 1), topic_id="t", applied={}, next_deltas=7, next_contracts=7)
    assert lost(progress, deltas=read, contracts=read) == ""
    older = msgspec.structs.replace(progress, next_deltas=6)
    assert "up to 7" in lost(older, deltas=read, contracts=read)
    assert "contracts" in lost(msgspec.structs.replace(progress, next_contracts=3), deltas=read, contracts=read)
    removed = ReadPosition(committed=7, begins_at=9)
    assert "removed" in lost(progress, deltas=removed, contracts=read)
    assert removed.next_offset == 9


def test_a_hole_in_the_deltas_is_told_from_what_follows() -> None:
    progress = DeltasProgress(version=(0, 0), topic_id="t", applied={0: 9})
    tick = msgspec.structs.replace(block(12, 11), changes=[])
    assert first_gap(progress, [block(5, 9), tick, block(10, 12), block(13, 13)]) == ""
    assert "10 to 12" in first_gap(progress, [block(13, 14)])
    assert "0 to 4" in first_gap(progress, [block(10, 10), block(5, 5, partition=1)])


def test_below_the_floor_every_counter_is_read_again_and_only_those() -> None:
    balances = seeded(contract(held()), usage=7, guard={0: 5})
    assert fold.behind(balances, {}) is balances
    assert fold.behind(balances, {0: 5}) is balances
    behind = fold.behind(balances, {0: 6})
    assert set(fold.to_read(behind, NOW)) == {one.key for one in balances.counters}
    read = seeded(behind.contract, usage=8, guard={0: 6, 1: 3})
    assert fold.behind(read, {0: 6}) is read
    differing = fold.with_due(balances, {balances.counters[0].key})
    assert set(fold.to_read(differing, NOW)) == {balances.counters[0].key}
