"""However blocks are split, repeated and interleaved, and whenever a counter is read, the same events give the same balances."""

from collections.abc import Sequence
from datetime import UTC, datetime
from decimal import Decimal

from hypothesis import given
from hypothesis import strategies as st

from domain import balances as fold
from domain.block_deltas import ChangeSet
from domain.counters import end_of, start_of, value_of
from domain.delta_progress import advanced, follows
from schemas.balances import CounterKey, CustomerBalances, DeltasProgress
from schemas.contracts import CustomerContract, Entitlement
from schemas.deltas import BlockDeltas
from schemas.meters import Aggregation
from schemas.usage import UsageState

AGGREGATIONS: tuple[Aggregation, ...] = ("count", "sum", "min", "max", "avg", "latest", "unique_count")
BEGAN = datetime(2026, 3, 1, tzinfo=UTC)
NOW = datetime(2026, 3, 20, tzinfo=UTC)
PARTITIONS = 3
OWNER = ("acme", "live", "cus_1")

# Days after the start (before it, in the month, after it), and a value.
Event = tuple[int, Decimal]
Block = list[Event]

events = st.tuples(st.integers(-2, 50), st.decimals(-1000, 1000, places=3))
blocks = st.lists(st.lists(events, max_size=4), max_size=5)
logs = st.lists(blocks, min_size=PARTITIONS, max_size=PARTITIONS)


def second_of(day: int) -> int:
    return int(BEGAN.timestamp()) + day * 86_400


def contract() -> CustomerContract:
    entitlements = [
        Entitlement(
            feature_id=f"fea_{aggregation}_{period}",
            feature_key=f"{aggregation}_{period}",
            kind="metered",
            subscription_id="sub_1",
            starts_at=BEGAN,
            anchor_at=BEGAN,
            meter_id=f"met_{aggregation}",
            aggregation=aggregation,
            usage_period=period,
        )
        for aggregation in AGGREGATIONS
        for period in ("month", "never")
    ]
    return CustomerContract(
        version=1,
        tenant=OWNER[0],
        environment=OWNER[1],
        customer_id=OWNER[2],
        references=["cus_1"],
        entitlements=entitlements,
    )


def deltas(partition: int, number: int, block: Block) -> BlockDeltas:
    """A block of one record: its offset is its number."""
    changes = ChangeSet(partition)
    for index, (day, value) in enumerate(block):
        for aggregation in AGGREGATIONS:
            key = (*OWNER, f"met_{aggregation}", 1, second_of(day))
            changes.add(key, value, second_of(day) * 1000, number, number, index)
    return BlockDeltas(
        topic_id="t",
        partition=partition,
        first_offset=number,
        last_offset=number,
        version=1,
        as_of_ms=0,
        changes=changes.changes(),
    )


def read(log: Sequence[Sequence[Block]], vector: dict[int, int], key: CounterKey) -> UsageState:
    """What the store says of all blocks up to the vector."""
    start, end = int(start_of(key).timestamp()), int(end_of(key).timestamp())
    balances = fold.with_reading(
        CustomerBalances(version=(0, 0), contract=contract()), key, "sum", UsageState(), dict.fromkeys(vector, -1)
    )
    uniques: set[Decimal] = set()
    for partition, own in enumerate(log):
        for number, block in enumerate(own[: vector[partition] + 1]):
            record = deltas(partition, number, block)
            balances = fold.with_block(balances, partition, number, fold.by_customer(record.changes).get(name(), {}))
            uniques |= {value for day, value in block if start <= second_of(day) < end}
    [counter] = balances.counters
    return UsageState(
        matches=counter.matches,
        values=counter.values,
        total=counter.total,
        lowest=counter.lowest,
        highest=counter.highest,
        latest=counter.latest,
        uniques=len(uniques),
    )


def name() -> str:
    return "/".join(OWNER)


def reading(balances: CustomerBalances, log: Sequence[Sequence[Block]], vector: dict[int, int]) -> CustomerBalances:
    for key, aggregation in fold.to_read(balances, NOW).items():
        balances = fold.with_reading(balances, key, aggregation, read(log, vector, key), vector)
    return balances


@given(logs, st.data())
def test_any_interleaving_repeats_and_moments_of_reading_give_the_same_counters(
    log: list[list[Block]], data: st.DataObject
) -> None:
    balances = fold.with_contract(None, contract(), NOW)
    progress = DeltasProgress(version=(-1, -1), topic_id="t", applied={})
    sent = [0] * PARTITIONS
    while any(sent[partition] < len(log[partition]) for partition in range(PARTITIONS)):
        partition = data.draw(st.sampled_from([one for one in range(PARTITIONS) if sent[one] < len(log[one])]))
        # A successor repeats from an earlier block on.
        number = data.draw(st.integers(0, sent[partition]))
        sent[partition] = max(number + 1, sent[partition]) if number == sent[partition] else sent[partition]
        record = deltas(partition, number, log[partition][number])
        if follows(progress, record):
            progress = advanced(progress, record)
            for changes in fold.by_customer(record.changes).values():
                balances = fold.with_block(balances, partition, number, changes)
        if data.draw(st.booleans()):
            # Blocks are done before their deltas are sent: the vector may lie ahead of what was applied.
            vector = {
                one: data.draw(st.integers(progress.applied.get(one, -1), len(log[one]) - 1))
                for one in range(PARTITIONS)
            }
            balances = reading(balances, log, vector)
    whole = {one: len(log[one]) - 1 for one in range(PARTITIONS)}
    balances = reading(balances, log, whole)

    at_once = reading(fold.with_contract(None, contract(), NOW), log, whole)
    assert {one.key: value_of(one) for one in balances.counters} == {one.key: value_of(one) for one in at_once.counters}
    assert len(balances.counters) == len(AGGREGATIONS) * 3  # the month, the next one, and the one without an end
    month = next(
        one
        for one in balances.counters
        if one.key.meter_id == "met_sum" and one.key.end_s == int(datetime(2026, 4, 1, tzinfo=UTC).timestamp())
    )
    every = [event for own in log for block in own for event in block]
    assert month.total == sum((value for day, value in every if 0 <= day < 31), Decimal(0))
