"""What a process needs always, once, or not at all in order to be ready."""

import asyncio

from runtime.readiness import Need, Part, Readiness, Ready


class Service:
    def __init__(self, name: str, need: Need, *, is_there: bool) -> None:
        self.is_there = is_there
        self.part = Part(name=name, is_there=self._ask, need=need)

    async def _ask(self) -> bool:
        return self.is_there


async def never() -> bool:
    await asyncio.Event().wait()
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


async def test_what_hangs_is_away_and_delays_no_other_answer() -> None:
    parts = [Part(name=f"slow-{number}", is_there=never, need="never") for number in range(20)]
    found = await Readiness([*parts, Part(name="hangs", is_there=never)], within_s=0.01).ask()
    assert found.missing == ("hangs",)
    assert len(found.degraded) == 20
    assert found.status == 503
