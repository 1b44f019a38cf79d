"""What a process needs always, once, or not at all in order to be ready."""

import asyncio

from runtime.readiness import Need, Part, Readiness, Ready


class Service:
    def __init__(self, name: str, need: Need, *, is_there: bool) -> None:
        self.is_there = is_there
        self.part = Part(name=name, is_there=self._ask, need=need)

    async def _ask(self) -> bool:
        return self.is_there


class Hanging:
    """Answers once it is let go."""

    def __init__(self) -> None:
        self.asked = 0
        self.let_go = asyncio.Event()

    async def is_there(self) -> bool:
        self.asked += 1
        await self.let_go.wait()
        return True


async def test_what_is_always_needed_is_missing_whenever_it_is_away() -> None:
    kafka = Service("kafka", "always", is_there=True)
    readiness = Readiness([kafka.part])
    assert await readiness.ask() == Ready(ready=True)
    kafka.is_there = False
    assert await readiness.ask() == Ready(ready=False, missing=("kafka",))


async def test_what_is_needed_once_is_missing_until_it_was_there_and_degrades_afterwards() -> None:
    postgres = Service("postgres", "once", is_there=False)
    readiness = Readiness([postgres.part])
    assert await readiness.ask() == Ready(ready=False, missing=("postgres",))
    postgres.is_there = True
    assert await readiness.ask() == Ready(ready=True)
    postgres.is_there = False
    assert await readiness.ask() == Ready(ready=True, degraded=("postgres",))


async def test_what_hangs_is_away_delays_no_other_answer_and_is_not_asked_again_meanwhile() -> None:
    hanging = [Hanging() for _ in range(3)]
    parts = [Part(name=f"part-{number}", is_there=one.is_there) for number, one in enumerate(hanging)]
    readiness = Readiness([*parts, Service("there", "always", is_there=True).part], within_s=0.01)
    for _ in range(3):
        assert (await readiness.ask()).missing == ("part-0", "part-1", "part-2")
    assert [one.asked for one in hanging] == [1, 1, 1]
    for one in hanging:
        one.let_go.set()
    assert await readiness.ask() == Ready(ready=True)
