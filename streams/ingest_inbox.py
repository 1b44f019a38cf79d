"""What came for a partition and waits for its turn: so that one that cannot write holds up no other."""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Any

from domain.records import LogRecord

# `Partition.accept`: returns when the record was taken, which may be long after.
Accept = Callable[[LogRecord, Any], Awaitable[None]]


class Inbox:
    """Records of one partition in one tenure, in the order of their delivery. The first waits to be accepted."""

    def __init__(self, accept: Accept) -> None:
        self._accept = accept
        self._waiting: deque[tuple[LogRecord, Any]] = deque()
        self._posted = asyncio.Event()
        self.bytes = 0

    def __len__(self) -> int:
        return len(self._waiting)

    @property
    def next_offset(self) -> int:
        """After the last record that waits; 0 where none does."""
        return self._waiting[-1][0].offset + 1 if self._waiting else 0

    def post(self, record: LogRecord, event: Any) -> None:
        """Put a record behind the others. Whoever calls it stops to fetch when too much waits."""
        self._waiting.append((record, event))
        self.bytes += len(record.value)
        self._posted.set()

    async def feed(self) -> None:
        """Hand records on, one after the other, for ever. Raises what `accept` raises: the worker then ends."""
        while True:
            await self._posted.wait()
            self._posted.clear()
            while self._waiting:
                record, event = self._waiting[0]
                await self._accept(record, event)
                self._waiting.popleft()
                self.bytes -= len(record.value)
