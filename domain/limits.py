"""What a tenant may set as its limits of time."""

from domain.errors import FieldError, Invalid
from schemas.catalog import TenantLimits

_DAY_S = 86_400
MAX_EVENT_AGE_S = 3 * 366 * _DAY_S
MAX_EVENT_AHEAD_S = _DAY_S


def validate_limits(limits: TenantLimits) -> None:
    """Raises Invalid `limit_out_of_range`.

    The age bounds how long identities are remembered (protocol 21), so it is bounded itself.
    """
    for name, most in (("max_event_age_s", MAX_EVENT_AGE_S), ("max_event_ahead_s", MAX_EVENT_AHEAD_S)):
        if not 0 < getattr(limits, name) <= most:
            message = f"{name} is 1 to {most} seconds"
            raise Invalid(
                "limit_out_of_range",
                message,
                [FieldError(pointer=f"/{name}", code="limit_out_of_range", message=message)],
            )
