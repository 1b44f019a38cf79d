"""Usage changes of a block: sums per (customer, meter generation, event second), for the balances worker."""

from decimal import Decimal

from domain.money import EXACT
from schemas.deltas import Latest, UsageChange

# tenant, environment, customer id, meter, generation, event second
ChangeKey = tuple[str, str, str, str, int, int]

_ZERO = Decimal(0)


class _Sum:
    __slots__ = ("highest", "latest", "latest_value", "lowest", "matches", "total", "values")

    def __init__(self) -> None:
        self.matches = 0
        self.values = 0
        self.total = _ZERO
        self.lowest: Decimal | None = None
        self.highest: Decimal | None = None
        # (time, log time, offset, index) of the newest value: the order of `latest` within one partition
        self.latest: tuple[int, int, int, int] | None = None
        self.latest_value = _ZERO


class ChangeSet:
    """Collects matches, whether just evaluated or read back from `events`: the same matches give the same changes."""

    def __init__(self, partition: int) -> None:
        self._partition = partition
        self._sums: dict[ChangeKey, _Sum] = {}

    def add(
        self, key: ChangeKey, value: Decimal | None, time_ms: int, logged_at_ms: int, offset: int, index: int
    ) -> None:
        """One match of a customer that is known (protocol 23: by the second, so every boundary of a period fits)."""
        change = self._sums.get(key)
        if change is None:
            change = self._sums[key] = _Sum()
        change.matches += 1
        if value is None:
            return
        change.values += 1
        change.total = EXACT.add(change.total, value)
        if change.lowest is None or value < change.lowest:
            change.lowest = value
        if change.highest is None or value > change.highest:
            change.highest = value
        at = (time_ms, logged_at_ms, offset, index)
        if change.latest is None or at > change.latest:
            change.latest, change.latest_value = at, value

    def changes(self) -> list[UsageChange]:
        """In the order of their keys, so that equal sets give equal records."""
        return [self._change(key, self._sums[key]) for key in sorted(self._sums)]

    def _change(self, key: ChangeKey, change: _Sum) -> UsageChange:
        tenant, environment, customer_id, meter_id, generation, second = key
        latest = None
        if change.latest is not None:
            time_ms, log_ms, offset, index = change.latest
            latest = Latest(
                time_ms=time_ms,
                log_ms=log_ms,
                partition=self._partition,
                offset=offset,
                index=index,
                value=change.latest_value,
            )
        return UsageChange(
            tenant=tenant,
            environment=environment,
            customer_id=customer_id,
            meter_id=meter_id,
            generation=generation,
            second=second,
            matches=change.matches,
            values=change.values,
            total=change.total,
            lowest=change.lowest,
            highest=change.highest,
            latest=latest,
        )
