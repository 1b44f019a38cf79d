"""What a new owner of balances checks: that every record came, and what a former one wrote late."""

from collections.abc import AsyncIterator, Sequence
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest

from schemas.balances import DeltasProgress
from schemas.deltas import BlockDeltas
from schemas.topics import BALANCES_CHANGELOG, CONTRACTS_CHANGED, USAGE_DELTAS
from streams.balances_foreign import Foreign
from streams.balances_owned import Owned
from streams.balances_steps import Balances
from streams.balances_takeover import LostRecordsError, TakeOver
from streams.tables import NotOwnedError

PARTITION = 1
EVENT: Any = SimpleNamespace(
    message=SimpleNamespace(generation_id=1, tp="t-1"), app=SimpleNamespace(consumer_generation_id=1)
)


class Log:
    """Topics as `PartitionReader` gives them: (offset, key, value) of each."""

    def __init__(self, **topics: Sequence[tuple[int, bytes, bytes]]) -> None:
        self._topics = topics

    async def read(self, topic: str, _: int, first: int, last: int) -> AsyncIterator[list[Any]]:
        found = self._topics[topic.replace(".", "_").replace("-", "_")]
        yield [
            SimpleNamespace(offset=offset, key=key, value=value)
            for offset, key, value in found
            if first <= offset <= last
        ]


class Table:
    """The changelog's holes, and what was written once more."""

    def __init__(self, *holes: tuple[int, int]) -> None:
        self.left = list(holes)
        self.outlived: list[bytes] = []

    def holes(self, _: int) -> list[tuple[int, int]]:
        return list(self.left)

    def hole_seen(self, _: int) -> None:
        self.left.pop(0)

    def outlive(self, _: Any, key: bytes, __: bytes) -> bool:
        self.outlived.append(key)
        return True

    async def drained(self) -> None:
        return None


def owned() -> Owned:
    progress = DeltasProgress(version=(3, 0), topic_id="t", applied={}, generation=1)
    return Owned(progress, next_deltas=10, next_contracts=5)


def messages(topic: str, *offsets: int) -> list[Any]:
    return [SimpleNamespace(topic=topic, offset=offset, tp=topic) for offset in offsets]


def take_over(log: Log) -> TakeOver:
    parts: Any = SimpleNamespace()
    return TakeOver(parts, parts, log, parts, topic_id="t", clock=parts)  # type: ignore[arg-type]


async def test_a_delta_that_the_log_has_and_that_did_not_come_ends_the_worker() -> None:
    log = take_over(Log())
    await log.check_order(PARTITION, owned(), messages(USAGE_DELTAS, 8, 9, 10, 11))
    for offsets in ((11,), (10, 12)):
        with pytest.raises(LostRecordsError):
            await log.check_order(PARTITION, owned(), messages(USAGE_DELTAS, *offsets))


async def test_a_contract_that_was_compacted_away_is_not_waited_for() -> None:
    log = take_over(Log(contracts_changed=[(2, b"a", b""), (7, b"b", b""), (8, b"c", b""), (9, b"a", b"")]))
    await log.check_order(PARTITION, owned(), messages(CONTRACTS_CHANGED, 7, 8, 9))
    for offsets in ((8,), (7, 9)):
        with pytest.raises(LostRecordsError):
            await log.check_order(PARTITION, owned(), messages(CONTRACTS_CHANGED, *offsets))


async def test_what_a_former_owner_wrote_late_is_outlived_once() -> None:
    late = b'{"version":[2,70]}'
    log = Log(
        **{BALANCES_CHANGELOG.replace("-", "_"): [(4, b"a", late), (5, b"b", late)]},
        entitlements_state=[
            (8, b"acme/live/c", late),
            (9, b"@as_of/1", late),
            (11, b"acme/live/d", b'{"version":[3,1]}'),
        ],
    )
    table, held = Table((4, 5)), owned()
    held.note_told([6, 7, 10, 12])
    foreign = Foreign(table, log)  # type: ignore[arg-type]
    for _ in range(2):
        await foreign.outlive(PARTITION, EVENT, held)
    assert (table.outlived, table.left) == ([b"a", b"b"], [])
    assert (held.retold, held.state_holes) == ({"acme/live/c"}, [])


async def test_who_sees_records_of_a_later_owner_knows_that_it_owns_nothing() -> None:
    table = Table((4, 4))
    log = Log(**{BALANCES_CHANGELOG.replace("-", "_"): [(4, b"a", b'{"version":[4,0]}')]})
    with pytest.raises(NotOwnedError):
        await Foreign(table, log).outlive(PARTITION, EVENT, owned())  # type: ignore[arg-type]
    assert (table.outlived, table.left) == ([], [(4, 4)])


async def test_deltas_that_the_log_does_not_have_are_made_good_before_anything_is_folded() -> None:
    """An unreadable record is one of them: it keeps its place in the order."""
    asked: list[tuple[int, str]] = []
    held = owned()

    class Taking:
        async def owned(self, *_: Any) -> Owned:
            return held

        async def check_order(self, *_: Any) -> None:
            return None

        async def again(self, partition: int, _: Any, former: Owned, reason: str) -> Owned:
            asked.append((partition, reason))
            assert former is held
            return owned()

    class Looking:
        async def outlive(self, *_: Any) -> None:
            return None

    parts: Any = SimpleNamespace(clock=None)
    steps = Balances(parts, parts, parts, Taking(), Looking(), parts)  # type: ignore[arg-type]
    deltas = BlockDeltas(topic_id="t", partition=0, first_offset=0, last_offset=4, version=1, as_of_ms=0, changes=[])
    later = msgspec.structs.replace(deltas, first_offset=9, last_offset=9)
    values = [msgspec.json.encode(deltas), b"{", msgspec.json.encode(later)]
    events: list[Any] = [
        SimpleNamespace(
            message=SimpleNamespace(
                topic=USAGE_DELTAS, partition=PARTITION, offset=offset, value=value, generation_id=1
            )
        )
        for offset, value in enumerate(values, 10)
    ]
    decoded = [steps.decode(event) for event in events]
    assert [one.event for one in decoded] == events
    await steps.prepare(decoded[:2])
    assert asked == []
    await steps.prepare(decoded)
    assert asked == [(PARTITION, "of partition 0 the blocks from 5 to 8 are missing")]
