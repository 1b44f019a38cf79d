"""What makes a meter's definition valid beyond its types."""

import re
from collections.abc import Callable
from functools import partial

from domain.conditions import validate_filter
from domain.errors import FieldError, Invalid, invalid_field
from domain.expressions import parse_expression
from domain.properties import validate_path
from schemas.meters import Aggregation, Meter, MeterSpec

MAX_EVENT_TYPES = 100
MAX_TYPE_LENGTH = 255
MAX_FILTERS = 50
MAX_DIMENSIONS = 16

_KEY = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")


def validate_meter(spec: MeterSpec, pointer: str = "") -> None:
    """Raises Invalid with every wrong field as a detail; its code is the first one's.

    Codes: `key_malformed`, `event_types_missing`, `event_type_malformed`, `value_property_missing`,
    `value_property_unused` (count reads none), `value_ambiguous` (a property and an expression), `path_malformed`,
    those of `parse_expression`, `percent_unused`, `carry_unused`, `filter_value_mismatch`, `too_many_filters`,
    `too_many_dimensions`, `dimension_repeated`.
    """
    errors: list[FieldError] = []

    def note(at: str, code: str, message: str) -> None:
        errors.append(FieldError(pointer=f"{pointer}/{at}", code=code, message=message))

    if not _KEY.fullmatch(spec.key):
        note("key", "key_malformed", "a key is 1 to 64 letters, digits, points, dashes or underscores")
    _event_types(spec, note)
    _value(spec, note)
    if spec.percent is not None:
        _taken("percent", partial(check_percent, spec.aggregation, "/percent"), note)
    if not spec.carry and spec.aggregation != "weighted_sum":
        note("carry", "carry_unused", f"only weighted_sum carries a level, and this meter is a {spec.aggregation}")
    if len(spec.filters) > MAX_FILTERS:
        note("filters", "too_many_filters", f"at most {MAX_FILTERS} filters are taken")
    for index, condition in enumerate(spec.filters):
        _taken(f"filters/{index}", partial(validate_filter, condition), note)
    _dimensions(spec, note)
    if errors:
        raise Invalid(errors[0].code, errors[0].message, errors)


def check_percent(aggregation: Aggregation, pointer: str) -> None:
    """Whether it takes a percent. Raises Invalid `percent_unused`."""
    if aggregation != "percentile":
        message = f"only percentile takes a percent, and this meter is a {aggregation}: leave it out"
        raise invalid_field(pointer, "percent_unused", message)


def check_billable(meter: Meter, pointer: str) -> None:
    """Whether a price may bill what `meter` counts. Raises Invalid `meter_not_billable`: a percentile is approximate."""
    if meter.aggregation == "percentile":
        message = f"the meter {meter.key!r} is a percentile, which is approximate and never billed: price another meter"
        raise invalid_field(pointer, "meter_not_billable", message)


def check_limited(meter: Meter, pointer: str) -> None:
    """Whether a feature may be limited by what `meter` counts. Raises Invalid `meter_not_limited`.

    Balances are kept from changes of their own period: a level depends on what came before it, a percentile on all values.
    """
    if meter.aggregation in {"weighted_sum", "percentile"}:
        message = (
            f"balances of a {meter.aggregation} are not kept: {meter.key!r} cannot limit a feature, take another meter"
        )
        raise invalid_field(pointer, "meter_not_limited", message)


Note = Callable[[str, str, str], None]


def _value(spec: MeterSpec, note: Note) -> None:
    """What is summed, averaged, ...: a property or an expression, and nothing where events are counted."""
    given = {"value_property": spec.value_property, "value_expression": spec.value_expression}
    named = [name for name, value in given.items() if value is not None]
    if spec.aggregation == "count":
        for name in named:
            note(name, "value_property_unused", "count counts events and reads no property")
        return
    if not named:
        message = f"the aggregation {spec.aggregation} reads a property: name it, or give an expression of several"
        note("value_property", "value_property_missing", message)
    if len(named) > 1:
        note("value_expression", "value_ambiguous", "a meter reads either a property or an expression: leave one out")
    if spec.value_property is not None:
        _path("value_property", spec.value_property, note)
    if spec.value_expression is not None:
        _taken("value_expression", partial(parse_expression, spec.value_expression), note)


def _taken(at: str, check: Callable[[], object], note: Note) -> None:
    try:
        check()
    except Invalid as invalid:
        note(at, invalid.code, invalid.message)


def _path(at: str, path: str, note: Note) -> None:
    _taken(at, partial(validate_path, path), note)


def _event_types(spec: MeterSpec, note: Note) -> None:
    if not 1 <= len(spec.event_types) <= MAX_EVENT_TYPES or len(set(spec.event_types)) != len(spec.event_types):
        note("event_types", "event_types_missing", f"a meter takes 1 to {MAX_EVENT_TYPES} different event types")
    for index, event_type in enumerate(spec.event_types):
        if not 1 <= len(event_type) <= MAX_TYPE_LENGTH:
            note(f"event_types/{index}", "event_type_malformed", f"a type is 1 to {MAX_TYPE_LENGTH} characters long")


def _dimensions(spec: MeterSpec, note: Note) -> None:
    if len(spec.dimensions) > MAX_DIMENSIONS:
        note("dimensions", "too_many_dimensions", f"at most {MAX_DIMENSIONS} dimensions are taken")
    if len(set(spec.dimensions)) != len(spec.dimensions):
        note("dimensions", "dimension_repeated", "a dimension is named once")
    for index, path in enumerate(spec.dimensions):
        _path(f"dimensions/{index}", path, note)
