"""What a meter counts of many events at once: the rule of `domain.meters`, compiled a second time, for columns.

A property test holds the two together: for any meter and any properties they give the same matches and issues.
"""

from collections.abc import Callable, Sequence
from decimal import Decimal
from operator import methodcaller
from typing import cast

import msgspec

from domain.conditions import Condition, compile_condition
from domain.errors import Invalid
from domain.expressions import compile_expression
from domain.properties import Properties, Reader, compile_path, dimension_text, scalar_text
from domain.quantities import parse_quantity, plain_integer, plain_integers
from schemas.meters import Meter

VALUE_MISSING = "value_missing"
VALUE_NEGATIVE = "value_negative"
NOT_A_SCALAR = "not_a_scalar"

# Which of the events (ascending), their values: what each step hands to the next.
Rows = Sequence[int]


class MeterColumn(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """The matches of one meter among some events: `rows` are places in their order, the others a list a column.

    `values` is None for count and unique_count, `keys` for all but unique_count. A value is an int where the property
    spells a small whole number, else a Decimal. `issues` are (row, code).
    """

    number: int
    rows: Rows
    values: Sequence[int | Decimal] | None
    keys: Sequence[str] | None
    dimensions: list[tuple[str, ...]]
    issues: Sequence[tuple[int, str]] = ()

    @property
    def integers(self) -> bool:
        """Whether all values are ints."""
        return self.values is None or set(map(type, self.values)) <= {int}


ColumnStep = Callable[[Sequence[Properties]], MeterColumn]


def compile_columns(number: int, meter: Meter) -> ColumnStep:
    """The meter (valid: `validate_meter`), number `number` of its tenant and environment."""
    conditions = tuple(compile_condition(condition) for condition in meter.filters)
    if meter.aggregation == "count":
        step = _count(number, meter)
    elif meter.aggregation == "unique_count":
        step = _unique(number, meter)
    else:
        step = _numeric(number, meter)

    def matched(properties: Sequence[Properties]) -> MeterColumn:
        rows = _passing(conditions, properties)
        return step(rows, properties if len(rows) == len(properties) else [properties[row] for row in rows])

    return matched


def _passing(conditions: tuple[Condition, ...], properties: Sequence[Properties]) -> Rows:
    rows: Rows = range(len(properties))
    for condition in conditions:
        rows = [row for row in rows if condition(properties[row])]
    return rows


Step = Callable[[Rows, Sequence[Properties]], MeterColumn]


def _count(number: int, meter: Meter) -> Step:
    dimensions = _dimensions(meter)

    def count(rows: Rows, chosen: Sequence[Properties]) -> MeterColumn:
        return MeterColumn(number=number, rows=rows, values=None, keys=None, dimensions=dimensions(chosen))

    return count


def _unique(number: int, meter: Meter) -> Step:
    """The empty text is no value: the store's key for "none" is the empty text too."""
    read, dimensions, required = _value_reader(meter), _dimensions(meter), meter.value_required

    def unique(rows: Rows, chosen: Sequence[Properties]) -> MeterColumn:
        found = read(chosen)
        keys = [value if type(value) is str else scalar_text(value) for value in found]
        issues: list[tuple[int, str]] = []
        if not all(keys):
            places = [place for place, key in enumerate(keys) if key]
            for row, key, value in zip(rows, keys, found, strict=True):
                if not key:
                    if value is not None and key is None:
                        issues.append((row, value.code if isinstance(value, Invalid) else NOT_A_SCALAR))
                    elif required:
                        issues.append((row, VALUE_MISSING))
            rows, chosen = [rows[place] for place in places], [chosen[place] for place in places]
        kept = [key for key in keys if key]
        return MeterColumn(
            number=number, rows=rows, values=None, keys=kept, dimensions=dimensions(chosen), issues=issues
        )

    return unique


def _numeric(number: int, meter: Meter) -> Step:
    read, dimensions, required = _value_reader(meter), _dimensions(meter), meter.value_required
    non_negative = meter.non_negative

    def numeric(rows: Rows, chosen: Sequence[Properties]) -> MeterColumn:
        found = read(chosen)
        values: Sequence[int | Decimal] | None = plain_integers(found)
        issues: list[tuple[int, str]] = []
        if values is None or (non_negative and values and min(values) < 0):
            places: list[int] = []
            values = []
            for place, value in enumerate(found):
                quantity = _quantity(value, non_negative=non_negative)
                if quantity is None:
                    if required:
                        issues.append((rows[place], VALUE_MISSING))
                elif isinstance(quantity, str):
                    issues.append((rows[place], quantity))
                else:
                    places.append(place)
                    values.append(quantity)
            rows, chosen = [rows[place] for place in places], [chosen[place] for place in places]
        return MeterColumn(
            number=number, rows=rows, values=values, keys=None, dimensions=dimensions(chosen), issues=issues
        )

    return numeric


def _quantity(value: object, *, non_negative: bool) -> int | Decimal | str | None:
    """The quantity; the code of an issue; None where there is no value."""
    if value is None:
        return None
    quantity: int | Decimal | None = plain_integer(value)
    if quantity is None:
        try:
            quantity = parse_quantity(value)
        except Invalid as invalid:
            return value.code if isinstance(value, Invalid) else invalid.code
    return VALUE_NEGATIVE if non_negative and quantity < 0 else quantity


ColumnReader = Callable[[Sequence[Properties]], list[object]]


def _columns_of(path: str) -> ColumnReader:
    if "." not in path:
        get = methodcaller("get", path)
        return lambda properties: list(map(get, properties))
    read: Reader = compile_path(path)
    return lambda properties: [read(one) for one in properties]


def _value_reader(meter: Meter) -> ColumnReader:
    if meter.value_expression is not None:
        return _computed(meter.value_expression)
    if meter.value_property is None:
        raise Invalid("value_property_missing", f"the aggregation {meter.aggregation} reads a property")
    return _columns_of(meter.value_property)


def _computed(expression: str) -> ColumnReader:
    """An event that the expression refuses has the refusal in place of a value, which no reader of values takes for one."""
    compute = compile_expression(expression)

    def of_one(properties: Properties) -> object:
        try:
            return compute(properties)
        except Invalid as invalid:
            return invalid

    return lambda properties: list(map(of_one, properties))


def _dimensions(meter: Meter) -> Callable[[Sequence[Properties]], list[tuple[str, ...]]]:
    readers = tuple(_columns_of(path) for path in meter.dimensions)
    if not readers:
        return lambda properties: [()] * len(properties)
    if len(readers) > 1:
        return lambda properties: list(zip(*[_texts(read(properties)) for read in readers], strict=True))
    (only,) = readers

    def one(properties: Sequence[Properties]) -> list[tuple[str, ...]]:
        texts = _texts(only(properties))
        # One tuple a text, and not one an event: few texts are all that most dimensions have.
        tuples = {text: (text,) for text in set(texts)}
        return [tuples[text] for text in texts]

    return one


def _texts(values: list[object]) -> list[str]:
    kinds = set(map(type, values))
    if kinds == {str}:
        return cast("list[str]", values)
    if kinds == {type(None)}:
        return [""] * len(values)
    return [value if type(value) is str else dimension_text(value) for value in values]
