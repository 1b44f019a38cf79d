"""Examples of request bodies in the schema, by path and method. Each one is a body that its request takes (a test says so)."""

from collections.abc import Mapping
from typing import Any

_MONTH = {"unit": "month"}
_BASE = {"key": "base", "price": {"model": "flat", "amount": "59"}}
_TOKENS = {"key": "tokens", "meter": "tokens", "price": {"model": "per_unit", "unit_amount": "0.00002"}}
_SPACE = {"key": "space", "price": {"model": "flat", "amount": "5"}}
_RANGE = {"from": "2026-05-01T00:00:00Z", "to": "2026-07-01T00:00:00Z"}

_Named = Mapping[str, Mapping[str, Any]]

_METER = {"key": "tokens", "event_types": ["api.request"]}

_CHANGES: _Named = {
    "an upgrade at once": {"plan": "scale"},
    "a downgrade with the period": {"plan": "base", "when": "period_end"},
    "seats and an add-on": {"quantities": {"seats": "12"}, "addons": {"storage": 2}},
}

EXAMPLES: Mapping[tuple[str, str], _Named] = {
    ("/v1/meters", "post"): {
        "a property": {**_METER, "aggregation": "sum", "value_property": "usage.tokens", "dimensions": ["model"]},
        "an expression": {**_METER, "aggregation": "sum", "value_expression": "usage.in + 4 * usage.out"},
        "a level": {**_METER, "aggregation": "weighted_sum", "value_property": "gigabytes", "carry": True},
        "a percentile": {**_METER, "aggregation": "percentile", "percent": 95, "value_property": "duration_ms"},
    },
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
    ("/v1/customers", "post"): {"a company": {"external_id": "acme", "name": "Acme Ltd", "timezone": "Europe/Berlin"}},
    ("/v1/subscriptions", "post"): {
        "from now on": {"customer": "acme", "plan": "pro"},
        "by calendar months, after a trial": {
            "customer": "acme",
            "plan": "pro",
            "start_at": "2026-05-05T00:00:00Z",
            "trial_end_at": "2026-05-19T00:00:00Z",
            "billing": "calendar",
        },
    },
    ("/v1/subscriptions/{subscription}/cancel", "post"): {
        "with the period": {},
        "at once": {"when": "now", "reason": "they moved"},
        "not after all": {"undo": True},
    },
    ("/v1/subscriptions/{subscription}/pause", "post"): {"for a month": {"resumes_at": "2026-07-01T00:00:00Z"}},
    ("/v1/subscriptions/{subscription}/change", "post"): _CHANGES,
    ("/v1/subscriptions/{subscription}/change/preview", "post"): _CHANGES,
    ("/v1/invoices/preview", "post"): {
        "of a customer": {"customer": "acme"},
        "of a subscription": {"subscription": "sub_01ARZ3NDEKTSV4RRFFQ69G5FAV"},
    },
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
