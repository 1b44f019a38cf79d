"""`percentile`, exactly: what approximations are compared with. It is never billed."""

from collections.abc import Iterable
from decimal import Decimal

from schemas.meters import Percent


def percentile(values: Iterable[Decimal], percent: Percent) -> Decimal | None:
    """The smallest of the values that at least `percent` in a hundred do not exceed (nearest rank); None of nothing."""
    ascending = sorted(values)
    if not ascending:
        return None
    rank = -(-len(ascending) * percent // 100)
    return ascending[rank - 1]
