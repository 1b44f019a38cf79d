"""What `meterstream status` calls a problem, and what `meterstream reconcile` calls a difference."""

from datetime import UTC, datetime, timedelta

from msgspec.structs import replace

from domain.reconciliation import hour_differences
from domain.system_status import problems_of
from schemas.reconciliation import HourDifference
from schemas.system_status import BalancesStatus, CutStatus, OpenIntent, PartitionStatus

AT = datetime(2026, 11, 23, 3, tzinfo=UTC)
HEALTHY = PartitionStatus(
    partition=0,
    epoch=4,
    generation=7,
    version=2,
    last_offset=99,
    last_done_at=AT - timedelta(seconds=3),
    as_of=AT - timedelta(seconds=2),
    open_intent=OpenIntent(first_offset=100, last_offset=101, intent_at=AT - timedelta(seconds=1), renewals=0),
    lag=2,
)
BALANCES = BalancesStatus(partition=0, lag=3)
CUT = CutStatus(cut=9, raised_at=AT - timedelta(minutes=70), complete=True)


def problems(
    part: PartitionStatus = HEALTHY,
    balances: BalancesStatus = BALANCES,
    cut: CutStatus | None = CUT,
    failed: dict[str, int] | None = None,
    differing: int | None = None,
) -> list[str]:
    found = problems_of(
        at=AT,
        partitions=[part],
        balances=[balances],
        cut=cut,
        failed_periods=failed or {},
        balances_differing=differing,
        behind_max=timedelta(seconds=60),
        balances_lag_max=100,
        cut_interval=timedelta(hours=1),
    )
    return list(found)


def test_a_system_that_counts_checks_and_closes_has_no_problem() -> None:
    assert problems() == []
    assert problems(differing=0) == []


def test_each_problem_is_said_in_a_sentence() -> None:
    [behind] = problems(replace(HEALTHY, as_of=AT - timedelta(minutes=5)))
    assert behind.startswith("partition 0 is 5 min behind")
    [never] = problems(replace(HEALTHY, epoch=0, as_of=datetime(1970, 1, 1, tzinfo=UTC), open_intent=None))
    assert never.startswith("partition 0 was never read")
    old = OpenIntent(first_offset=100, last_offset=101, intent_at=AT - timedelta(hours=3), renewals=5)
    assert problems(replace(HEALTHY, open_intent=old)) == ["partition 0: block 100-101 is open for 3 h"]
    assert problems(balances=replace(BALANCES, lag=101)) == [
        "balances partition 0: 101 records of usage.deltas are not applied"
    ]
    assert problems(replace(HEALTHY, lag=None)) == ["Kafka does not answer: no lag is known"]
    [wrong] = problems(differing=3)
    assert wrong.startswith("3 balances are not what their usage comes to")
    [cut] = problems(cut=replace(CUT, raised_at=AT - timedelta(minutes=121)))
    assert cut.startswith("the cut was raised 2 h ago")
    assert problems(failed={"recount_differs": 2}) == ["2 billing periods stand still: recount_differs"]


def test_an_hour_is_compared_outcome_by_outcome_whichever_side_lacks_it() -> None:
    ledger = {(0, 10): {"stored": 5, "duplicate": 1, "rejected": 0}, (1, 10): {"stored": 2}}
    rows = {(0, 10): {"stored": 4, "duplicate": 2}, (1, 10): {"stored": 2}, (1, 11): {"rejected": 3}}
    hours = [datetime(1970, 1, 1, hour, tzinfo=UTC) for hour in (10, 11)]
    assert list(hour_differences(ledger, rows)) == [
        HourDifference(partition=0, hour=hours[0], outcome="stored", ledger=5, rows=4),
        HourDifference(partition=0, hour=hours[0], outcome="duplicate", ledger=1, rows=2),
        HourDifference(partition=1, hour=hours[1], outcome="rejected", ledger=0, rows=3),
    ]
