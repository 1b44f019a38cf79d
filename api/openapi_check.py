"""`POST /v1/check` in the schema: one check or an array, and what stands in the place of an answer that there is none of."""

from typing import Any

_CHECK = {"customer": "acme", "feature": "tokens", "quantity": "100"}
_ANSWER = {
    "allowed": True,
    "reason": "within_limit",
    "usage": "1500",
    "limit": "10000",
    "balance": "8500",
    "overage": "0",
    "resets_at": "2026-12-01T00:00:00Z",
    "as_of": "2026-11-22T10:00:00.123Z",
    "stale": False,
    "config": None,
}
_REFUSAL = {"error": {"code": "customer_not_found", "message": "no customer 'nobody'"}}

_DESCRIPTION = """\
Whether `quantity` more of a feature fits (default 0: whether any is left), answered from memory. An array of up to 1,000
checks answers an array in the same order; a check that has no answer has `{"error": {"code", "message"}}` in its place.

`as_of` says which events are counted: every one that was answered 202 before it. `stale` is true once it is more than 10
seconds ago. A change of a subscription or a plan is seen within about a second; until then a new customer is
`customer_not_found`, and one whose past usage is being read is `usage_unknown`.

Codes: `customer_not_found` (404), `usage_unknown` (503: never answered as "0 used"), `entitlements_unavailable` (503: the
process has just started), `invalid_request`, `malformed_json`, `quantity_negative`, `not_a_number`,
`quantity_out_of_range`, `too_many_fraction_digits` (422).
"""


def _either(name: str, refusals: tuple[str, ...] = ()) -> dict[str, Any]:
    one = {"$ref": f"#/components/schemas/{name}"}
    item = {"oneOf": [one, *({"$ref": f"#/components/schemas/{other}"} for other in refusals)]} if refusals else one
    return {"oneOf": [one, {"type": "array", "minItems": 1, "maxItems": 1000, "items": item}]}


CHECK_OPERATION: dict[str, Any] = {
    "tags": ["entitlements"],
    "operationId": "Check",
    "summary": "Check",
    "description": _DESCRIPTION,
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {
                "schema": _either("CheckRequest"),
                "examples": {"one": {"value": _CHECK}, "array": {"value": [_CHECK]}},
            }
        },
    },
    "responses": {
        "200": {
            "description": "The answer, or the answers in order.",
            "content": {
                "application/json": {
                    "schema": _either("CheckResult", ("CheckRefusal",)),
                    "examples": {"one": {"value": _ANSWER}, "array": {"value": [_ANSWER, _REFUSAL]}},
                }
            },
        },
        "default": {"$ref": "#/components/responses/Problem"},
    },
}
