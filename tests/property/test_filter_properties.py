"""A duplicate filter that lacks parts, with the store behind it, answers as one that has everything."""

from itertools import pairwise
from random import Random

from hypothesis import given
from hypothesis import strategies as st

from domain.blocks import Candidate, pack_position
from domain.known_copies import settled, unsettled
from domain.offset_ranges import OffsetRange, common, merged, without
from domain.records import MS_PER_DAY, LogRecord
from schemas.events import UsageEvent

WINDOW = 3
DAYS_A_LOG = 12
RECORDS_A_DAY = 3
RECORDS = DAYS_A_LOG * RECORDS_A_DAY

# A log of records of a few events each, three records a day: event numbers collide, within the window and beyond.
LOG = st.lists(st.lists(st.integers(0, 6), max_size=3), min_size=1, max_size=RECORDS)
RANGES = st.lists(st.tuples(st.integers(0, RECORDS), st.integers(0, RECORDS)), max_size=4)


def copies(log: list[list[int]]) -> list[Candidate]:
    event = UsageEvent(id="e", type="call", customer="c")
    return [
        Candidate(
            record=LogRecord(
                offset=offset,
                logged_at_ms=offset // RECORDS_A_DAY * MS_PER_DAY + offset,
                received_at_ms=0,
                tenant="acme",
                environment="live",
                version=0,
                value=b"",
            ),
            index=index,
            event=event,
            tenant="acme",
            environment="live",
            identity=b"%016d" % number,
            position=pack_position(offset, index),
        )
        for offset, numbers in enumerate(log)
        for index, number in enumerate(numbers)
    ]


class Store:
    """First copies: in the filter, or in the store alone where the filter has a gap."""

    def __init__(self, gaps: list[OffsetRange]) -> None:
        self.gaps = gaps
        self.rows: list[Candidate] = []

    def absent(self, row: Candidate) -> bool:
        return any(first <= row.record.offset <= last for first, last in self.gaps)

    def earliest(self, candidate: Candidate, *, whole: bool) -> bytes | None:
        return min(
            (
                row.position
                for row in self.rows
                if row.identity == candidate.identity
                and candidate.log_day - WINDOW <= row.log_day <= candidate.log_day
                and (whole or not self.absent(row))
            ),
            default=None,
        )

    def look_up(self, identities: set[bytes]) -> list[tuple[bytes, int, int, int]]:
        return [
            (row.identity, row.record.offset, row.index, row.record.logged_at_ms)
            for row in self.rows
            if row.identity in identities and self.absent(row)
        ]


@given(LOG, RANGES, st.integers(0, RECORDS), st.randoms(use_true_random=False))
def test_a_filter_with_gaps_and_the_store_answer_like_a_full_filter(
    log: list[list[int]], drawn: list[OffsetRange], begun: int, chance: Random
) -> None:
    """Whatever is absent, wherever the reading of the log stands, and also when a range is evaluated again."""
    store = Store(merged(drawn))
    candidates = copies(log)
    for candidate in candidates:
        first = store.earliest(candidate, whole=True)
        if first is None or first >= candidate.position:
            store.rows.append(candidate)
    asked = [one for one in candidates if one.record.offset >= begun]
    chance.shuffle(asked)
    known = [store.earliest(one, whole=False) for one in asked]
    places = unsettled(asked, known)
    answers = settled(asked, known, store.look_up({asked[place].identity for place in places}), WINDOW)
    assert answers == [store.earliest(one, whole=True) for one in asked]


@given(RANGES, RANGES, st.integers(0, RECORDS), st.integers(0, RECORDS))
def test_ranges_hold_the_offsets_that_they_say(
    left: list[OffsetRange], right: list[OffsetRange], first: int, last: int
) -> None:
    def offsets(ranges: list[OffsetRange]) -> set[int]:
        return {offset for start, end in ranges for offset in range(start, end + 1)}

    assert offsets(merged(left)) == offsets(left)
    assert offsets(without(left, first, last)) == offsets(left) - set(range(first, last + 1))
    assert offsets(common(left, right)) == offsets(left) & offsets(right)
    tidy = merged(left)
    assert all(before[1] + 1 < after[0] for before, after in pairwise(tidy))
