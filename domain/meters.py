"""The one definition of what a meter counts: stream, backfill and recount all run what is compiled here.

Properties are decoded with `domain.events.decode_properties`: numbers arrive as int or Decimal, never as float.
"""

from collections.abc import Callable, Sequence
from decimal import Decimal
from typing import Any, cast

from domain.conditions import Condition, compile_condition
from domain.errors import Invalid
from domain.properties import Properties, Reader, compile_path, dimension_text, scalar_text
from domain.quantities import parse_quantity
from schemas.meters import Meter

# Goes into every block's intent (protocol 7): raise it when the same events and meters would match differently.
EVALUATOR = 1

# Index into `CompiledMeters.meters`, value (None for count and unique_count), unique key ("" but for unique_count),
# values of the dimensions. Plain tuples: one is made per event and meter.
Match = tuple[int, Decimal | None, str, tuple[str, ...]]
# Index into `CompiledMeters.meters`, code.
Issue = tuple[int, str]

Step = Callable[[Properties], "Match | Issue | None"]

VALUE_MISSING = "value_missing"
VALUE_NEGATIVE = "value_negative"
NOT_A_SCALAR = "not_a_scalar"

_FITS_EASILY = 10**26
_ISSUE_LENGTH = 2


class CompiledMeters:
    """The meters of one tenant and environment, indexed by event type."""

    __slots__ = ("_steps", "meters")

    def __init__(self, meters: Sequence[Meter]) -> None:
        self.meters = tuple(meters)
        by_type: dict[str, list[Step]] = {}
        for index, meter in enumerate(self.meters):
            step = _compile(index, meter)
            for event_type in meter.event_types:
                by_type.setdefault(event_type, []).append(step)
        self._steps = {event_type: tuple(steps) for event_type, steps in by_type.items()}

    def evaluate(self, event_type: str, properties: Properties) -> tuple[list[Match], list[Issue]]:
        """What one event means to every meter: its matches and its issues, each in the order of `meters`.

        A function of its arguments only, so evaluating a block again gives the same rows (protocol 7). An unusable
        value is an issue and no match; it is never taken as zero. Codes: `value_missing` (only where the meter
        requires it), `value_negative`, `not_a_number`, `quantity_out_of_range`, `too_many_fraction_digits`,
        `not_a_scalar` (an object or array as a unique value).
        """
        matches: list[Match] = []
        issues: list[Issue] = []
        for step in self._steps.get(event_type, ()):
            outcome = step(properties)
            if outcome is not None:
                if len(outcome) == _ISSUE_LENGTH:
                    issues.append(cast("Issue", outcome))
                else:
                    matches.append(cast("Match", outcome))
        return matches, issues


def compile_meters(meters: Sequence[Meter]) -> CompiledMeters:
    """Compile the meters (valid: `validate_meter`) of one tenant and environment."""
    return CompiledMeters(meters)


def _compile(index: int, meter: Meter) -> Step:
    if meter.aggregation == "count":
        step = _count(index, meter)
    elif meter.aggregation == "unique_count":
        step = _unique(index, meter)
    else:
        step = _numeric(index, meter)
    conditions = tuple(compile_condition(condition) for condition in meter.filters)
    return _filtered(conditions, step) if conditions else step


def _filtered(conditions: tuple[Condition, ...], step: Step) -> Step:
    if len(conditions) == 1:
        (only,) = conditions
        return lambda properties: step(properties) if only(properties) else None

    def filtered(properties: Properties) -> Match | Issue | None:
        for condition in conditions:
            if not condition(properties):
                return None
        return step(properties)

    return filtered


def _dimensions(meter: Meter) -> Callable[[Properties], tuple[str, ...]] | None:
    readers = tuple(compile_path(path) for path in meter.dimensions)
    if not readers:
        return None
    if len(readers) == 1:
        (only,) = readers
        return lambda properties: (dimension_text(only(properties)),)
    return lambda properties: tuple([dimension_text(read(properties)) for read in readers])


def _count(index: int, meter: Meter) -> Step:
    dimensions = _dimensions(meter)
    if dimensions is None:
        always: Match = (index, None, "", ())
        return lambda _properties: always
    return lambda properties: (index, None, "", dimensions(properties))


def _missing(index: int, meter: Meter) -> Issue | None:
    return (index, VALUE_MISSING) if meter.value_required else None


def _unique(index: int, meter: Meter) -> Step:
    """The empty text is no value: the store's key for "none" is the empty text too."""
    read, dimensions, missing = _value_reader(meter), _dimensions(meter), _missing(index, meter)

    def unique(properties: Properties) -> Match | Issue | None:
        value = read(properties)
        key = value if type(value) is str else scalar_text(value)
        if key:
            return (index, None, key, () if dimensions is None else dimensions(properties))
        return missing if value is None or key == "" else (index, NOT_A_SCALAR)

    return unique


def _numeric(index: int, meter: Meter) -> Step:
    read, dimensions, missing = _value_reader(meter), _dimensions(meter), _missing(index, meter)
    non_negative = meter.non_negative

    def numeric(properties: Properties) -> Match | Issue | None:
        value: Any = read(properties)
        if type(value) is int and -_FITS_EASILY < value < _FITS_EASILY:
            quantity = Decimal(value)
        elif value is None:
            return missing
        else:
            try:
                quantity = parse_quantity(value)
            except Invalid as invalid:
                return (index, invalid.code)
        if non_negative and quantity < 0:
            return (index, VALUE_NEGATIVE)
        return (index, quantity, "", () if dimensions is None else dimensions(properties))

    return numeric


def _value_reader(meter: Meter) -> Reader:
    if meter.value_property is None:
        raise Invalid("value_property_missing", f"the aggregation {meter.aggregation} reads a property")
    return compile_path(meter.value_property)
