"""The five kinds of error: what each edge does with them is decided once per edge, not per place.

`Invalid` the input is wrong; `NotFound` the thing is not there; `Conflict` the state says no;
`Unavailable` a service does not answer (transient); anything else is a bug.
"""

from collections.abc import Sequence

import msgspec


class FieldError(msgspec.Struct, frozen=True, kw_only=True):
    """One wrong field: `pointer` is a JSON pointer (RFC 6901) into the request body."""

    pointer: str
    code: str
    message: str


class MeterstreamError(Exception):
    """A refusal with a stable snake_case `code`, the same in the API body, the rejected record and the metric label."""

    def __init__(self, code: str, message: str, details: Sequence[FieldError] = ()) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.details = tuple(details)


class Invalid(MeterstreamError):  # noqa: N818 - the kind is the name
    """The input is wrong and will be wrong again."""


def invalid_field(pointer: str, code: str, message: str) -> Invalid:
    """The one wrong field of a body."""
    return Invalid(code, message, [FieldError(pointer=pointer, code=code, message=message)])


class NotFound(MeterstreamError):  # noqa: N818
    """No such object in this tenant and environment."""


class Conflict(MeterstreamError):  # noqa: N818
    """The state does not allow it now."""


class Unavailable(MeterstreamError):  # noqa: N818
    """A service does not answer; the same call may succeed after `retry_after_s`."""

    def __init__(self, service: str, message: str, retry_after_s: int = 1) -> None:
        super().__init__(f"{service}_unavailable", message)
        self.service = service
        self.retry_after_s = retry_after_s
