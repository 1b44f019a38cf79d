"""Ranges of offsets, both ends included: which parts of a log somebody has, and which are missing."""

from collections.abc import Iterable, Sequence

OffsetRange = tuple[int, int]


def merged(ranges: Iterable[OffsetRange]) -> list[OffsetRange]:
    """The same offsets as few ranges, ascending; empty ranges (first > last) vanish."""
    result: list[OffsetRange] = []
    for first, last in sorted(one for one in ranges if one[0] <= one[1]):
        if result and first <= result[-1][1] + 1:
            result[-1] = (result[-1][0], max(result[-1][1], last))
        else:
            result.append((first, last))
    return result


def without(ranges: Sequence[OffsetRange], first: int, last: int) -> list[OffsetRange]:
    """`ranges` less the offsets from `first` to `last`."""
    kept: list[OffsetRange] = []
    for one in ranges:
        kept += [(one[0], min(one[1], first - 1)), (max(one[0], last + 1), one[1])]
    return merged(kept)


def common(left: Sequence[OffsetRange], right: Sequence[OffsetRange]) -> list[OffsetRange]:
    """The offsets that both hold."""
    return merged((max(a[0], b[0]), min(a[1], b[1])) for a in left for b in right)
