"""What the balances worker keeps in memory of a partition it owns, and of the batch it works on."""

import heapq
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any

from schemas.balances import CounterKey, CustomerBalances, DeltasProgress, Version
from schemas.contracts import ThresholdCrossed


class Owned:
    """An owned partition, in one generation of the consumer group: in the next one it is loaded anew."""

    def __init__(self, progress: DeltasProgress, *, next_deltas: int, next_contracts: int) -> None:
        self.progress = progress
        self.generation = progress.generation
        self.version: Version = progress.version
        self.next_deltas = next_deltas
        self.next_contracts = next_contracts
        self.as_of: dict[int, int] = {}
        self.told_as_of = 0
        self.pending: dict[str, None] = {}  # customers with counters to be read, in order
        self.stale: set[str] = set()  # those of them with a counter that is behind
        self.unread: set[str] = set()  # those of them that were found so at the take-over
        self.differing: dict[str, set[CounterKey]] = {}  # counters that the usage contradicts
        self.state_holes: list[tuple[int, int]] = []  # offsets between this owner's own records in entitlements.state
        self.retold: set[str] = set()  # customers whose state is to be told once more
        self._told_to: int | None = None
        self._selections: list[tuple[datetime, str]] = []
        self._until: dict[str, datetime] = {}

    def select_until(self, until: datetime, name: str) -> None:
        """The customer's contract selects other counters from then on."""
        if self._until.get(name) != until:
            self._until[name] = until
            heapq.heappush(self._selections, (until, name))

    def take_due(self, now: datetime) -> None:
        """Customers whose contract selects other counters by now."""
        while self._selections and self._selections[0][0] <= now:
            until, name = heapq.heappop(self._selections)
            if self._until.get(name) == until:
                del self._until[name]
            self.pending[name] = None

    def note(self, name: str, balances: CustomerBalances) -> None:
        if any(one.due for one in balances.counters):
            self.stale.add(name)
            self.pending[name] = None
        else:
            self.stale.discard(name)

    def note_told(self, offsets: Iterable[int]) -> None:
        """Where this owner's records in entitlements.state are."""
        for offset in sorted(offsets):
            if self._told_to is not None and offset > self._told_to + 1:
                self.state_holes.append((self._told_to + 1, offset - 1))
            self._told_to = offset

    def forget(self, name: str) -> None:
        """Nothing of the customer is to be read."""
        self.pending.pop(name, None)
        self.stale.discard(name)
        self.unread.discard(name)

    def has_work(self, *, rereads: bool) -> bool:
        return bool(self.pending) and (rereads or len(self.pending) > len(self.stale))

    def fresh_as_of(self, raw_partitions: int) -> int:
        """Of all source partitions the oldest. While a counter is behind, so is what can be said."""
        if not self.stale and not self.unread:
            self.told_as_of = max(
                self.told_as_of, min(self.as_of.get(partition, 0) for partition in range(raw_partitions))
            )
        return self.told_as_of


class Share:
    """One partition's part of a batch."""

    def __init__(self, partition: int, owned: Owned, event: Any) -> None:
        self.partition = partition
        self.owned = owned
        self.event = event
        self.progress = owned.progress
        self.before: dict[str, CustomerBalances | None] = {}
        self.after: dict[str, CustomerBalances] = {}
        self.touched: set[str] = set()
        self.crossed: list[ThresholdCrossed] = []


class Batch:
    def __init__(self, shares: Sequence[Share]) -> None:
        self.shares = shares
        self.settled = False
