"""Events for the benchmark: every one with an id of its own, of CUSTOMERS customers in turn, and two meters match it.

Their times are those of a steady stream of STREAM_RATE events a second, so that a block holds about as many seconds and
customers as it would in service. Requests are copied from encoded ones, of which only a number and the second change:
making them costs the load generator next to nothing.
"""

import itertools
import math
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta

from domain.identity import identities_in, partition_of

TENANT, ENVIRONMENT = "default", "live"
EVENT_TYPE = "api.request"
SOURCE = "bench"
CUSTOMERS = 100
MODELS = ("large", "medium", "small")
STREAM_RATE = 40_000
_SPAN_S = 1500
# What is filled in, as long as what comes in its place.
_NUMBER, _SECOND = b"~" * 10, b"^" * 19

Encode = Callable[[bytes], bytes]


def lane_customer(partition: int) -> str:
    return f"lane-{partition}"


class EventSource:
    """Bodies of `POST /v1/events`. `made` counts the events handed out: every one of them shall be sent."""

    def __init__(self, now: datetime, partitions: int) -> None:
        self.made = 0
        self._numbers = itertools.count()
        self._partitions = partitions
        self._identity = identities_in(TENANT, ENVIRONMENT)
        first = now - timedelta(seconds=_SPAN_S)
        seconds = [first + timedelta(seconds=second) for second in range(_SPAN_S)]
        self._seconds = [at.strftime("%Y-%m-%dT%H:%M:%S").encode() for at in seconds]

    def bodies(self, requests: int, size: int) -> list[bytes]:
        """`requests` bodies of `size` events. One event is an object, more are an array."""
        return list(itertools.islice(self.requests(size), requests))

    def requests(self, size: int, encode: Encode = bytes) -> Iterator[bytes]:
        """Bodies without end, each counted as made when it is taken. `encode` may put bytes before and after one."""
        for request in self._filled(size, encode):
            self.made += size
            yield request

    def unsent_bodies(self, requests: int, size: int) -> list[bytes]:
        """Bodies of the same kind for a ceiling: they are never sent to the system, and are not counted as made."""
        return list(itertools.islice(self.unsent(size), requests))

    def unsent(self, size: int, encode: Encode = bytes) -> Iterator[bytes]:
        """As `requests`, but never sent to the system, and not counted."""
        return self._filled(size, encode)

    def lane_body(self, size: int) -> tuple[bytes, list[int]]:
        """A body whose events have the customer of their own partition of the log; and how many each partition gets.

        A partition keeps the order, so when its customer's count reaches n its first n events are visible.
        """
        counts = [0] * self._partitions
        events = []
        second = self._second().decode()
        for _ in range(size):
            number, self.made = self.made, self.made + 1
            partition = partition_of(self._identity(SOURCE, f"e{number}"), self._partitions)
            counts[partition] += 1
            events.append(_event(number, f"e{number}", second, lane_customer(partition), f',"lane":"{partition}"'))
        return f"[{','.join(events)}]".encode(), counts

    def _filled(self, size: int, encode: Encode) -> Iterator[bytes]:
        templates = itertools.cycle([encode(body) for body in _templates(size)])
        for template in templates:
            yield template.replace(_NUMBER, b"%010d" % next(self._numbers)).replace(_SECOND, self._second())

    def _second(self) -> bytes:
        return self._seconds[self.made // STREAM_RATE % _SPAN_S]


def _templates(size: int) -> list[bytes]:
    """Enough of them to name all customers and models equally often."""
    number, second = _NUMBER.decode(), _SECOND.decode()
    variants = math.lcm(CUSTOMERS, len(MODELS), size) // size
    numbers = iter(range(variants * size))
    bodies = [
        [
            _event(one, f"{number}.{place}", second, f"customer-{one % CUSTOMERS}")
            for place, one in enumerate(itertools.islice(numbers, size))
        ]
        for _ in range(variants)
    ]
    return [(events[0] if size == 1 else f"[{','.join(events)}]").encode() for events in bodies]


def _event(number: int, event_id: str, second: str, customer: str, more: str = "") -> str:
    return (
        f'{{"id":"{event_id}","source":"{SOURCE}","type":"{EVENT_TYPE}","customer":"{customer}",'
        f'"time":"{second}.{number % 1000:03d}Z",'
        f'"properties":{{"tokens":"{number % 1999}","model":"{MODELS[number % len(MODELS)]}"{more}}}}}'
    )
