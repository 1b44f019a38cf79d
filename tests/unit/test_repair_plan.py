"""Which blocks a ledger that was restored has forgotten: those that deltas told of, then those of the rows (protocol 18)."""

import pytest

from stores.clickhouse.repairs import RowGroup
from streams.repair_ledger import Span, plan
from streams.repair_report import NotMendable


def group(first: int, last: int, *, version: int = 1, cut: int = 5, cuts: int = 1) -> RowGroup:
    return RowGroup(first_offset=first, last_offset=last, rows=last - first + 1, version=version, cut=cut, cuts=cuts)


def span(first: int, last: int, *, version: int = 1, cut: int | None = None) -> Span:
    return Span(first_offset=first, last_offset=last, version=version, cut=cut)


def test_a_ledger_that_has_forgotten_nothing_needs_nothing() -> None:
    assert plan(9, [], [], 10) == []
    assert plan(9, [span(0, 4), span(5, 9)], [], 3) == []


def test_ranges_are_those_that_deltas_named_with_the_cut_of_their_rows() -> None:
    told = [span(5, 9), span(10, 19), span(20, 24)]
    groups = [group(10, 17), group(20, 24, cut=6)]
    assert plan(9, told, groups, 20) == [span(10, 19, cut=5), span(20, 24, cut=6)]


def test_behind_the_last_delta_a_block_ends_with_its_last_row() -> None:
    assert plan(9, [span(10, 19)], [group(10, 12), group(20, 22)], 20) == [span(10, 19, cut=5), span(20, 22, cut=5)]


def test_what_left_neither_rows_nor_deltas_is_a_range_of_its_own() -> None:
    found = plan(9, [], [group(12, 14, version=3), group(17, 17, version=4)], 21)
    assert found == [
        span(10, 11, version=3),
        span(12, 14, version=3, cut=5),
        span(15, 16, version=4),
        span(17, 17, version=4, cut=5),
        span(18, 20, version=4),
    ]


@pytest.mark.parametrize(
    ("told", "groups"),
    [
        ([span(10, 19)], [group(10, 12), group(15, 16)]),  # two inserts within one block
        ([span(10, 19)], [group(10, 22)]),  # rows behind the block's end
        ([span(10, 19, version=2)], [group(10, 12)]),  # rows of another version
        ([span(10, 19)], [group(10, 12, cuts=2)]),  # rows of two cuts
        ([span(5, 12)], []),  # a block that the ledger has the half of
    ],
)
def test_rows_and_deltas_that_contradict_each_other_are_left_alone(told: list[Span], groups: list[RowGroup]) -> None:
    with pytest.raises(NotMendable):
        plan(9, told, groups, 0)
