"""The loop of an agent: what happens in which order, and what a failure leaves unacknowledged."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from types import SimpleNamespace
from typing import Any

import pytest

from domain.errors import Invalid, Unavailable
from streams.consume import Rejection, consume
from streams.tables import NotOwnedError


class FakeEvent:
    def __init__(self, journal: list[str], value: str) -> None:
        self.value = value
        self._journal = journal
        self.message = SimpleNamespace(generation_id=1, tp="t-0")
        self.app = SimpleNamespace(consumer_generation_id=2 if value.startswith("old") else 1)

    def ack(self) -> None:
        self._journal.append(f"ack {self.value}")


class FakeStream:
    """A stream of events that are all there; `waiting` says after which the queue is empty."""

    def __init__(self, events: list[FakeEvent], batches: Sequence[int]) -> None:
        self._events = events
        self._last = {sum(batches[: number + 1]) - 1 for number in range(len(batches))}
        self._at = -1
        self.channel = self
        self.queue = self

    def noack(self) -> "FakeStream":
        return self

    def empty(self) -> bool:
        return self._at in self._last

    async def events(self) -> AsyncIterator[FakeEvent]:
        for at, event in enumerate(self._events):
            self._at = at
            yield event


class Journal:
    """Steps that write down what is asked of them."""

    def __init__(self, *, failures: int = 0, crash_in: str = "") -> None:
        self.done: list[str] = []
        self._failures = failures
        self._crash_in = crash_in

    def decode(self, event: FakeEvent) -> str:
        if event.value.startswith("bad"):
            raise Invalid("malformed_json", event.value)
        return event.value

    async def prepare(self, decoded: Sequence[str]) -> None:
        self._crash("prepare")

    def step(self, decoded: Sequence[str]) -> str:
        self._crash("step")
        return "+".join(decoded)

    async def emit(self, effects: str, rejected: Sequence[Rejection]) -> None:
        self._crash("emit")
        if self._failures:
            self._failures -= 1
            self.done.append("away")
            raise Unavailable("kafka", "away")
        self.done.append(f"emit {effects} rejected {[one.code for one in rejected]}")

    async def write(self, effects: str, events: Sequence[Any]) -> None:
        self._crash("write")
        self.done.append(f"write {effects}")

    def _crash(self, where: str) -> None:
        if where == self._crash_in:
            raise RuntimeError(where)
        if f"moved in {where}" == self._crash_in:
            raise NotOwnedError(where)


async def run(steps: Journal, values: list[str], batches: Sequence[int], *, budget_s: float = 10) -> list[float]:
    waits: list[float] = []

    async def sleep(seconds: float) -> None:
        waits.append(seconds)
        await asyncio.sleep(0)

    def monotonic() -> float:
        return sum(waits)

    events = [FakeEvent(steps.done, value) for value in values]
    stream = FakeStream(events, batches)
    await consume(stream, steps, budget_s=budget_s, max_batch=3, sleep=sleep, monotonic=monotonic)
    return waits


async def test_effects_leave_before_state_and_acknowledgements_come_last_in_order() -> None:
    steps = Journal()
    await run(steps, ["a", "b", "c"], [2, 1])
    assert steps.done == [
        "emit a+b rejected []",
        "write a+b",
        "ack a",
        "ack b",
        "emit c rejected []",
        "write c",
        "ack c",
    ]


async def test_a_batch_closes_when_it_is_full() -> None:
    steps = Journal()
    await run(steps, ["a", "b", "c", "d"], [4])
    assert [line for line in steps.done if line.startswith("write")] == ["write a+b+c", "write d"]


async def test_what_cannot_be_decoded_is_rejected_and_acknowledged_with_the_rest() -> None:
    steps = Journal()
    await run(steps, ["a", "bad", "b"], [3])
    assert steps.done == ["emit a+b rejected ['malformed_json']", "write a+b", "ack a", "ack bad", "ack b"]


async def test_a_service_that_is_away_is_waited_for_in_place() -> None:
    steps = Journal(failures=3)
    waits = await run(steps, ["a"], [1])
    assert steps.done == ["away", "away", "away", "emit a rejected []", "write a", "ack a"]
    assert waits == [0.1, 0.2, 0.4]


async def test_after_the_budget_the_batch_stays_unacknowledged() -> None:
    steps = Journal(failures=1000)
    with pytest.raises(Unavailable):
        await run(steps, ["a"], [1], budget_s=3)
    assert set(steps.done) == {"away"}


@pytest.mark.parametrize("where", ["prepare", "step", "emit", "write"])
async def test_any_failure_leaves_the_whole_batch_unacknowledged_and_ends_the_loop(where: str) -> None:
    steps = Journal(crash_in=where)
    with pytest.raises(RuntimeError, match=where):
        await run(steps, ["a", "b"], [2])
    assert not [line for line in steps.done if line.startswith("ack")]


async def test_what_was_fetched_before_the_group_moved_on_is_neither_handled_nor_acknowledged() -> None:
    steps = Journal()
    await run(steps, ["a", "old", "b"], [3])
    assert steps.done == ["emit a+b rejected []", "write a+b", "ack a", "ack b"]


@pytest.mark.parametrize("where", ["prepare", "write"])
async def test_a_partition_that_moves_meanwhile_is_left_to_its_owner_and_the_loop_goes_on(where: str) -> None:
    steps = Journal(crash_in=f"moved in {where}")
    await run(steps, ["a", "b"], [1, 1])
    assert not [line for line in steps.done if line.startswith(("write", "ack"))]
