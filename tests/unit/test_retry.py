"""Waiting in place: for how long, with what pauses, and what is told meanwhile."""

from collections.abc import Iterator

import pytest

from domain.errors import Unavailable
from streams.retry import services_away, until_available


class Time:
    """A clock that moves only by what is waited and by what attempts take."""

    def __init__(self) -> None:
        self.now = 0.0
        self.waits: list[float] = []

    async def sleep(self, seconds: float) -> None:
        self.waits.append(seconds)
        self.now += seconds

    def monotonic(self) -> float:
        return self.now


class Away:
    """A service that fails as often as told, each time after `takes_s`."""

    def __init__(self, time: Time, services: Iterator[str], takes_s: float = 0.0) -> None:
        self.attempts = 0
        self.seen_away: list[list[str]] = []
        self._time = time
        self._services = services
        self._takes_s = takes_s

    async def __call__(self) -> str:
        self.attempts += 1
        self.seen_away.append(services_away())
        self._time.now += self._takes_s
        service = next(self._services, "")
        if service:
            raise Unavailable(service, "away")
        return "there"


async def test_waits_double_up_to_a_limit_and_end_with_the_budget() -> None:
    time = Time()
    service = Away(time, iter(["kafka"] * 1000))
    with pytest.raises(Unavailable):
        await until_available(service, 20, sleep=time.sleep, monotonic=time.monotonic)
    assert time.waits[:7] == [0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 5.0]
    assert max(time.waits) == 5.0
    assert time.now == pytest.approx(20), "the last attempt is made when the budget is over, not after another wait"


async def test_slow_attempts_use_the_budget_up_as_waits_do() -> None:
    time = Time()
    service = Away(time, iter(["clickhouse"] * 1000), takes_s=30)
    with pytest.raises(Unavailable):
        await until_available(service, 90, sleep=time.sleep, monotonic=time.monotonic)
    assert service.attempts == 3
    assert time.now < 91


async def test_what_is_waited_for_is_told_while_it_is_waited_for() -> None:
    time = Time()
    service = Away(time, iter(["postgres", "postgres", "clickhouse"]))
    assert await until_available(service, 90, sleep=time.sleep, monotonic=time.monotonic) == "there"
    assert service.seen_away == [[], ["postgres"], ["postgres"], ["clickhouse"]]
    assert services_away() == []


async def test_nothing_is_told_to_be_away_after_the_budget() -> None:
    time = Time()
    with pytest.raises(Unavailable):
        await until_available(Away(time, iter(["kafka"] * 9)), 0.5, sleep=time.sleep, monotonic=time.monotonic)
    assert services_away() == []
