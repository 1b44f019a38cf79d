"""The one definition of what a meter counts: stream, backfill and recount all run what is compiled here.

Properties are decoded with `domain.events.decode_properties`: numbers arrive as int or Decimal, never as float.
"""

from collections.abc import Callable, Sequence
from decimal import Decimal

from domain.conditions import Condition, compile_condition
from domain.errors import Invalid
from domain.expressions import compile_expression
from domain.meter_columns import NOT_A_SCALAR, VALUE_MISSING, VALUE_NEGATIVE, ColumnStep, MeterColumn, compile_columns
from domain.properties import Properties, Reader, compile_path, dimension_text, scalar_text
from domain.quantities import parse_quantity
from schemas.meters import Meter

# Goes into every block's intent (protocol 7): raise it when the same events and meters would match differently.
EVALUATOR = 4

# Index into `CompiledMeters.meters`, value (None for count and unique_count), unique key ("" but for unique_count),
# values of the dimensions. Plain tuples: one is made per event and meter.
Match = tuple[int, Decimal | None, str, tuple[str, ...]]
# Index into `CompiledMeters.meters`, code.
Issue = tuple[int, str]

# Adds the event's match or issue of one meter, or nothing, to the two lists.
Step = Callable[[Properties, list[Match], list[Issue]], None]


class CompiledMeters:
    """The meters of one tenant and environment, indexed by event type."""

    __slots__ = ("_columns", "_steps", "meters")

    def __init__(self, meters: Sequence[Meter]) -> None:
        self.meters = tuple(meters)
        by_type: dict[str, list[Step]] = {}
        columns: dict[str, list[ColumnStep]] = {}
        for index, meter in enumerate(self.meters):
            step, column = _compile(index, meter), compile_columns(index, meter)
            for event_type in meter.event_types:
                by_type.setdefault(event_type, []).append(step)
                columns.setdefault(event_type, []).append(column)
        self._steps = {event_type: tuple(steps) for event_type, steps in by_type.items()}
        self._columns = {event_type: tuple(steps) for event_type, steps in columns.items()}

    def evaluate(self, event_type: str, properties: Properties) -> tuple[list[Match], list[Issue]]:
        """What one event means to every meter: its matches and its issues, each in the order of `meters`.

        A function of its arguments only, so evaluating a block again gives the same rows (protocol 7). An unusable
        value is an issue and no match; it is never taken as zero. Codes: `value_missing` (only where the meter
        requires it), `value_negative`, `not_a_number`, `quantity_out_of_range`, `too_many_fraction_digits`,
        `not_a_scalar` (an object or array as a unique value), `division_by_zero` (of an expression).
        """
        matches: list[Match] = []
        issues: list[Issue] = []
        for step in self._steps.get(event_type, ()):
            step(properties, matches, issues)
        return matches, issues

    def columns(self, event_type: str, properties: Sequence[Properties]) -> list[MeterColumn]:
        """`evaluate` of many events of one type: a column a meter, in the order of `meters`."""
        return [step(properties) for step in self._columns.get(event_type, ())]


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
    def filtered(properties: Properties, matches: list[Match], issues: list[Issue]) -> None:
        for condition in conditions:
            if not condition(properties):
                return
        step(properties, matches, issues)

    return filtered


def _dimensions(meter: Meter) -> Callable[[Properties], tuple[str, ...]]:
    readers = tuple(compile_path(path) for path in meter.dimensions)
    if not readers:
        return lambda _properties: ()
    if len(readers) > 1:
        return lambda properties: tuple([dimension_text(read(properties)) for read in readers])
    (only,) = readers

    def one(properties: Properties) -> tuple[str]:
        value = only(properties)
        return (value,) if type(value) is str else (dimension_text(value),)

    return one


def _count(index: int, meter: Meter) -> Step:
    dimensions = _dimensions(meter)
    return lambda properties, matches, _issues: matches.append((index, None, "", dimensions(properties)))


def _unique(index: int, meter: Meter) -> Step:
    """The empty text is no value: the store's key for "none" is the empty text too."""
    read, dimensions, required = _value_reader(meter), _dimensions(meter), meter.value_required

    def unique(properties: Properties, matches: list[Match], issues: list[Issue]) -> None:
        try:
            value = read(properties)
        except Invalid as invalid:
            issues.append((index, invalid.code))
            return
        key = value if type(value) is str else scalar_text(value)
        if key:
            matches.append((index, None, key, dimensions(properties)))
        elif value is not None and key is None:
            issues.append((index, NOT_A_SCALAR))
        elif required:
            issues.append((index, VALUE_MISSING))

    return unique


def _numeric(index: int, meter: Meter) -> Step:
    read, dimensions, required = _value_reader(meter), _dimensions(meter), meter.value_required
    non_negative = meter.non_negative

    def numeric(properties: Properties, matches: list[Match], issues: list[Issue]) -> None:
        try:
            value = read(properties)
            if value is None:
                if required:
                    issues.append((index, VALUE_MISSING))
                return
            quantity = parse_quantity(value)
        except Invalid as invalid:
            issues.append((index, invalid.code))
            return
        if non_negative and quantity < 0:
            issues.append((index, VALUE_NEGATIVE))
        else:
            matches.append((index, quantity, "", dimensions(properties)))

    return numeric


def _value_reader(meter: Meter) -> Reader:
    """Of an expression, the reader raises Invalid where the event has no usable value."""
    if meter.value_expression is not None:
        return compile_expression(meter.value_expression)
    if meter.value_property is None:
        raise Invalid("value_property_missing", f"the aggregation {meter.aggregation} reads a property")
    return compile_path(meter.value_property)
