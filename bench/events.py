"""Events for the benchmark, encoded beforehand, every one with an id of its own."""

from datetime import datetime, timedelta

from domain.identity import identities_in, partition_of

TENANT, ENVIRONMENT = "default", "live"
EVENT_TYPE = "api.request"
SOURCE = "bench"
CUSTOMERS = 8
MODELS = ("large", "medium", "small")
_SPAN_S = 600


def lane_customer(partition: int) -> str:
    return f"lane-{partition}"


class EventSource:
    """Bodies of `POST /v1/events`. `made` counts the events handed out: every one of them shall be sent."""

    def __init__(self, now: datetime, partitions: int) -> None:
        self.made = 0
        self._partitions = partitions
        self._identity = identities_in(TENANT, ENVIRONMENT)
        # Event times lie in the ten minutes before the run, so that blocks fill several windows.
        self._times = [(now - timedelta(seconds=second)).strftime("%Y-%m-%dT%H:%M:%SZ") for second in range(_SPAN_S)]

    def bodies(self, requests: int, size: int) -> list[bytes]:
        """`requests` bodies of `size` events, of CUSTOMERS customers. One event is an object, more are an array."""
        if size == 1:
            return [self._event(f"customer-{self.made % CUSTOMERS}").encode() for _ in range(requests)]
        return [
            f"[{','.join([self._event(f'customer-{self.made % CUSTOMERS}') for _ in range(size)])}]".encode()
            for _ in range(requests)
        ]

    def unsent_bodies(self, requests: int, size: int) -> list[bytes]:
        """Bodies of the same kind for a ceiling: they are never sent to the system, and are not counted as made."""
        made = self.made
        try:
            return self.bodies(requests, size)
        finally:
            self.made = made

    def lane_body(self, size: int) -> tuple[bytes, list[int]]:
        """A body whose events have the customer of their own partition of the log; and how many each partition gets.

        A partition keeps the order, so when its customer's count reaches n its first n events are visible.
        """
        counts = [0] * self._partitions
        events = []
        for _ in range(size):
            partition = partition_of(self._identity(SOURCE, f"e{self.made}"), self._partitions)
            counts[partition] += 1
            events.append(self._event(lane_customer(partition), f',"lane":"{partition}"'))
        return f"[{','.join(events)}]".encode(), counts

    def _event(self, customer: str, more: str = "") -> str:
        number = self.made
        self.made += 1
        return (
            f'{{"id":"e{number}","source":"{SOURCE}","type":"{EVENT_TYPE}","customer":"{customer}",'
            f'"time":"{self._times[number % _SPAN_S]}",'
            f'"properties":{{"tokens":"{number % 1999}","model":"{MODELS[number % len(MODELS)]}"{more}}}}}'
        )
