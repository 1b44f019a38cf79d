"""What makes a system unhealthy. Each problem is a sentence for the person who must act."""

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timedelta

from schemas.system_status import BalancesStatus, CutStatus, PartitionStatus

# Cuts are raised every hour; a run may be missed, two are a schedule that does not run.
CUTS_MISSED = 2
OPEN_AT_MOST = timedelta(minutes=2)


def problems_of(
    *,
    at: datetime,
    partitions: Sequence[PartitionStatus],
    balances: Sequence[BalancesStatus],
    cut: CutStatus | None,
    failed_periods: Mapping[str, int],
    balances_differing: int | None = None,
    behind_max: timedelta,
    balances_lag_max: int,
    cut_interval: timedelta,
) -> Iterator[str]:
    """None for a system that counts, checks and closes as it should."""
    for part in partitions:
        yield from _of_partition(part, at, behind_max)
    for share in balances:
        if share.lag is not None and share.lag > balances_lag_max:
            yield f"balances partition {share.partition}: {share.lag:,} records of usage.deltas are not applied"
    if any(part.lag is None for part in partitions) or any(share.lag is None for share in balances):
        yield "Kafka does not answer: no lag is known"
    if cut is not None and at - cut.raised_at > CUTS_MISSED * cut_interval:
        yield f"the cut was raised {_age(at - cut.raised_at)} ago: the temporal worker or its schedule raise-cut stands still"
    if balances_differing:
        yield f"{balances_differing:,} balances are not what their usage comes to: `meterstream reconcile` names them"
    for code, count in sorted(failed_periods.items()):
        yield f"{count:,} billing periods stand still: {code}"


def _of_partition(part: PartitionStatus, at: datetime, behind_max: timedelta) -> Iterator[str]:
    opened = part.open_intent
    if at - part.as_of > behind_max:
        how = "was never read" if not part.epoch else f"is {_age(at - part.as_of)} behind"
        yield f"partition {part.partition} {how}: no ingest worker reads it, or it waits"
    if opened is not None and at - opened.intent_at > OPEN_AT_MOST:
        yield (
            f"partition {part.partition}: block {opened.first_offset}-{opened.last_offset} is open for"
            f" {_age(at - opened.intent_at)}"
        )


def _age(age: timedelta) -> str:
    seconds = int(age.total_seconds())
    if seconds < 120:  # noqa: PLR2004 - two minutes
        return f"{seconds} s"
    minutes = seconds // 60
    return f"{minutes} min" if minutes < 120 else f"{minutes // 60} h"  # noqa: PLR2004 - two hours
