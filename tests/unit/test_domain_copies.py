"""In what a copy differs from the event that stands: values, not spellings."""

from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import msgspec
import pytest

from domain.copies import EventBody, differing_fields

FIRST = EventBody(
    type="call",
    customer="acme",
    time=datetime(2026, 11, 1, tzinfo=UTC),
    properties={"n": 1, "list": [1, {"a": None}], "on": True},
)


@pytest.mark.parametrize(
    ("changed", "differs"),
    [
        ({}, ()),
        ({"customer": "other"}, ("customer",)),
        ({"type": "job", "time": None}, ("type", "time")),
        ({"properties": {"on": True, "list": [Decimal("1.0"), {"a": None}], "n": Decimal("10e-1")}}, ()),
        ({"properties": {"on": 1, "list": [1, {"a": None}], "n": 1}}, ("properties",)),
        ({"properties": {"on": True, "list": [1], "n": 1}}, ("properties",)),
        ({"properties": {"on": True, "list": [1, {"a": "1"}], "n": 1}}, ("properties",)),
        ({"properties": {"on": True, "list": [1, {}], "n": 1}}, ("properties",)),
        ({"properties": {"on": True, "list": {"1": 1}, "n": 1}}, ("properties",)),
        ({"properties": {"on": True, "list": [1, {"a": None}], "n": "1"}}, ("properties",)),
    ],
)
def test_a_copy_differs_by_its_values(changed: dict[str, Any], differs: tuple[str, ...]) -> None:
    assert differing_fields(FIRST, msgspec.structs.replace(FIRST, **changed)) == differs
