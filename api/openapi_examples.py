"""Examples of request bodies in the schema, by path and method. Each one is a body that its request takes (a test says so)."""

from collections.abc import Mapping
from typing import Any

_MONTH = {"unit": "month"}
_BASE = {"key": "base", "price": {"model": "flat", "amount": "59"}}
_TOKENS = {"key": "tokens", "meter": "tokens", "price": {"model": "per_unit", "unit_amount": "0.00002"}}
_SPACE = {"key": "space", "price": {"model": "flat", "amount": "5"}}
_RANGE = {"from": "2026-05-01T00:00:00Z", "to": "2026-07-01T00:00:00Z"}

_Named = Mapping[str, Mapping[str, Any]]

EXAMPLES: Mapping[tuple[str, str], _Named] = {
    ("/v1/plans/{plan}/versions", "post"): {
        "a copy of what is sold": {},
        "other prices": {"prices": [_BASE, _TOKENS]},
        "phases": {
            "phases": [
                {"key": "trial", "trial": True, "duration": {"unit": "day", "count": 14}},
                {"key": "standard", "rate_cards": [{"price": _BASE}, {"price": _TOKENS}]},
            ]
        },
    },
    ("/v1/plans/{plan}/versions/{version}", "patch"): {"family and level": {"family": "main", "level": 2}},
    ("/v1/plans/{plan}", "patch"): {"name": {"name": "Pro"}},
    ("/v1/plans/{plan}/clone", "post"): {"clone": {"key": "pro-2027", "name": "Pro 2027"}},
    ("/v1/addons", "post"): {
        "storage": {
            "key": "storage",
            "name": "Storage",
            "currency": "EUR",
            "max_quantity": 10,
            "plans": ["pro"],
            "rate_cards": [{"price": _SPACE, "cadence": _MONTH}],
        }
    },
    ("/v1/addons/{addon}", "patch"): {"name": {"name": "More storage"}},
    ("/v1/addons/{addon}/versions", "post"): {"any number of it": {"max_quantity": None}},
    ("/v1/addons/{addon}/versions/{version}", "patch"): {"any plan": {"plans": []}},
    ("/v1/prices/backtest", "post"): {
        "a draft on all holders of its plan": {**_RANGE, "holders_of": "pro", "plan": "pro", "version": 3},
        "prices on one customer": {**_RANGE, "customers": ["acme"], "currency": "EUR", "prices": [_TOKENS]},
    },
}


def with_examples(path: str, method: str, operation: dict[str, Any]) -> dict[str, Any]:
    """The operation with the examples of its body; as it is where there are none."""
    examples = EXAMPLES.get((path, method))
    if examples is None:
        return operation
    named = {name: {"value": value} for name, value in examples.items()}
    body = operation["requestBody"]
    content = {media: {**described, "examples": named} for media, described in body["content"].items()}
    return {**operation, "requestBody": {**body, "content": content}}
