"""Which questions about usage have an answer: some windows do not suit some aggregations, and some need a customer."""

from domain.errors import Invalid
from domain.windows import moving_window
from schemas.usage import UsageQuery


def check_question(query: UsageQuery) -> None:
    """Raises Invalid `window_unknown`, `window_unsuited`, `customer_missing`."""
    aggregation, moving = query.meter.aggregation, moving_window(query.window)
    if aggregation == "weighted_sum" and moving is not None:
        if moving.kind == "session":
            raise Invalid(
                "window_unsuited", "a level is there between events too, so it has no sessions: ask for windows"
            )
        if not query.meter.carry:
            message = "the meter's level begins at 0 with each range, so no window of it can slide: ask for windows"
            raise Invalid("window_unsuited", message)
    if query.references is None:
        if aggregation == "weighted_sum":
            raise Invalid("customer_missing", "a level belongs to a customer: name one in `customer`")
        if moving is not None and moving.kind == "session":
            raise Invalid("customer_missing", "a session belongs to a customer: name one in `customer`")


def check_followed(query: UsageQuery) -> None:
    """Of a stream, which tells windows whose value is another one. Raises Invalid `window_unsuited`."""
    moving = moving_window(query.window)
    if moving is not None and moving.kind == "session":
        message = (
            "a late event can make one session of two, which no change of a window says: ask for usage again instead"
        )
        raise Invalid("window_unsuited", message)
