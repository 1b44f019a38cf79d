"""Which cuts usage can be read at."""

from domain.errors import NotFound


def check_known(cut: int, current: int) -> None:
    """Raises NotFound `cut_unknown` for a cut that was never raised: what lies below it is not settled."""
    if not 0 < cut <= current:
        raise NotFound("cut_unknown", f"there is no cut {cut}: they go from 1 to {current}; GET /v1/cuts lists them")
