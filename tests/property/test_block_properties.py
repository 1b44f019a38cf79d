"""Blocks: however the log is cut, whatever is done again, the same events are stored."""

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from domain.blocks import Outcomes, decode_block, judge_block
from domain.catalog import Catalog, CatalogLog
from domain.records import LogRecord
from schemas.catalog import CatalogChange, CatalogVersion
from schemas.meters import Meter

RECEIVED_MS = 1_780_000_000_000
METER = Meter(id="met_a", key="a", event_types=("call",), aggregation="sum", value_property="n")


def catalog() -> Catalog:
    log = CatalogLog()
    changes = [
        CatalogChange(kind="meter", tenant="acme", environment="live", key="met_a", body=msgspec.to_builtins(METER)),
        CatalogChange(
            kind="customer",
            tenant="acme",
            environment="live",
            key="cus_1",
            body={"id": "cus_1", "references": ["c1"]},
        ),
    ]
    log.append(CatalogVersion(version=1, changes=changes))
    return log.at(1)


CATALOG = catalog()


class Filter:
    """The rule of the duplicate filter, as a dict: of two positions the smaller stays."""

    def __init__(self) -> None:
        self.known: dict[bytes, bytes] = {}

    def process(self, records: list[LogRecord]) -> Outcomes:
        decoded = decode_block(records, 0, 1, CATALOG)
        outcomes = judge_block(decoded, [self.known.get(one.identity) for one in decoded.candidates])
        for identity, position, _ in outcomes.accepted:
            self.known[identity] = min(position, self.known.get(identity, position))
        return outcomes


# A log: records of events named by small numbers (so that copies abound), some of them garbage.
RECORDS = st.lists(st.lists(st.integers(0, 12) | st.none(), min_size=1, max_size=6), min_size=1, max_size=25)


def log_of(drawn: list[list[int | None]]) -> list[LogRecord]:
    return [
        LogRecord(
            offset=offset,
            logged_at_ms=RECEIVED_MS + offset,
            received_at_ms=RECEIVED_MS,
            tenant="acme",
            environment="live",
            version=1,
            value=msgspec.json.encode(
                [
                    {"id": ""}
                    if name is None
                    else {"id": f"e{name}", "type": "call", "customer": "c1", "properties": {"n": offset}}
                    for name in names
                ]
            ),
        )
        for offset, names in enumerate(drawn)
    ]


def cut(records: list[LogRecord], sizes: list[int]) -> list[list[LogRecord]]:
    blocks, rest = [], list(records)
    for size in sizes:
        if rest:
            blocks.append(rest[:size])
            rest = rest[size:]
    return [*blocks, rest] if rest else blocks


SIZES = st.lists(st.integers(1, 5), max_size=30)


def positions(outcomes: list[Outcomes]) -> list[tuple[int, int]]:
    return [at for one in outcomes for at in zip(one.stored.offset, one.stored.index, strict=True)]


@given(RECORDS, SIZES, SIZES)
def test_any_split_of_the_log_stores_the_same_events(
    drawn: list[list[int | None]], sizes: list[int], others: list[int]
) -> None:
    records = log_of(drawn)
    one, two = Filter(), Filter()
    stored = positions([one.process(block) for block in cut(records, sizes)])
    assert stored == positions([two.process(block) for block in cut(records, others)])
    first: dict[int, tuple[int, int]] = {}
    for offset, names in enumerate(drawn):
        for index, name in enumerate(names):
            if name is not None:
                first.setdefault(name, (offset, index))
    assert stored == sorted(first.values())


@given(RECORDS, SIZES, st.integers(0, 30))
def test_doing_blocks_again_gives_the_same_answers(drawn: list[list[int | None]], sizes: list[int], since: int) -> None:
    """The filter may be ahead: it has seen blocks whose outcome was never recorded (protocol 12, 13)."""
    records = log_of(drawn)
    blocks = cut(records, sizes)
    memory = Filter()
    outcomes = [memory.process(block) for block in blocks]
    again = [memory.process(block) for block in blocks[since % len(blocks) :]]
    for before, after in zip(outcomes[since % len(blocks) :], again, strict=True):
        assert after.row_hash == before.row_hash
        assert after.counts == before.counts
        assert after.changes == before.changes
        assert after.duplicates == before.duplicates


@given(RECORDS, SIZES)
def test_what_was_read_is_stored_or_duplicate_or_rejected(drawn: list[list[int | None]], sizes: list[int]) -> None:
    memory = Filter()
    outcomes = [memory.process(block) for block in cut(log_of(drawn), sizes)]
    read = sum(len(names) for names in drawn)
    assert read == sum(
        count.stored + count.duplicate + count.rejected + count.forwarded for one in outcomes for count in one.counts
    )
