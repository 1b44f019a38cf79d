"""What a check says of what it is given."""

from collections.abc import Callable

from domain.errors import MeterstreamError


def refusal_of(check: Callable[[], object]) -> str | None:
    """The code of the refusal; None where there is none."""
    try:
        check()
    except MeterstreamError as error:
        return error.code
    return None
