"""`POST /v1/events` in the schema: what it takes, what it answers, and every code with its meaning."""

from typing import Any

_EVENT = {
    "id": "evt-1",
    "source": "gateway-3",
    "type": "api.request",
    "customer": "acme",
    "time": "2026-11-22T10:00:00.123Z",
    "properties": {"tokens": "1500", "model": "large"},
}
_CLOUDEVENT = {
    "specversion": "1.0",
    "id": "evt-1",
    "source": "gateway-3",
    "type": "api.request",
    "subject": "acme",
    "time": "2026-11-22T10:00:00.123Z",
    "data": {"tokens": "1500", "model": "large"},
}
_REJECTED = {"index": 17, "id": "evt-18", "code": "event_too_old", "message": "the event is older than 3024000 s"}

_DESCRIPTION = """\
Takes one event, an array of them, lines of JSON, or CloudEvents 1.0 (structured, one or a batch), plain or compressed
with gzip or zstd: at most 10,000 events (lines) and 16 MiB decoded, and 256 KiB an event.

Each event is judged by itself, all of a request by one receipt time. `202` says that the log has every event that is not
in `rejected`; it is sent after all in-sync replicas have them. `422` with the same body: every event was refused.
`503`: the log did not acknowledge all of them in time. Some may be counted nevertheless: send the whole request again,
an event with the same `source` and `id` is counted once. The same id twice in a request is accepted, and counted once.

`customer` may be a customer's id, external id or alias, also one that is not known yet. Without `time` the receipt
counts. Numbers in `properties` keep all their digits.

Codes of an event: `not_an_object`, `field_missing`, `wrong_type`, `unknown_field`, `empty_field`, `field_too_long`,
`invalid_character`, `properties_not_an_object`, `too_deep` (32 levels), `number_too_long`, `event_too_large`,
`time_malformed`, `time_without_zone`, `event_too_old`, `event_in_future`, `unknown_customer` (where the tenant refuses
those), `specversion_unsupported`, `data_not_json`, and for a line `malformed_json`.

Codes of a request: `malformed_json`, `too_deep`, `no_events`, `malformed_encoding` (422), `unauthorized` (401),
`scope_missing` (403), `body_too_large` (413), `unsupported_media_type` (415), `rate_limited` (429: too many bytes are
being worked on), `kafka_unavailable`, `postgres_unavailable`, `catalog_unavailable` (503).
"""

_LIMIT_HEADERS = {
    "RateLimit-Limit": {"schema": {"type": "integer"}, "description": "Bytes that may be worked on at once."},
    "RateLimit-Remaining": {"schema": {"type": "integer"}, "description": "Bytes left of it."},
    "RateLimit-Reset": {"schema": {"type": "integer"}, "description": "Seconds after which to look again."},
}


def _problem(description: str) -> dict[str, Any]:
    return {
        "description": description,
        "content": {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}},
    }


_EVENT_SCHEMA = {"$ref": "#/components/schemas/UsageEvent"}
_CLOUDEVENT_SCHEMA: dict[str, Any] = {
    "type": "object",
    "required": ["specversion", "id", "source", "type", "subject"],
    "description": "Extension attributes are ignored.",
    "properties": {
        "specversion": {"const": "1.0"},
        "id": {"type": "string"},
        "source": {"type": "string"},
        "type": {"type": "string"},
        "subject": {"type": "string", "description": "The customer."},
        "time": {"type": "string", "format": "date-time"},
        "data": {"type": "object", "description": "The properties."},
    },
}
_ANSWER = {"schema": {"$ref": "#/components/schemas/IngestAnswer"}}

INGEST_OPERATION: dict[str, Any] = {
    "tags": ["events"],
    "summary": "Send events",
    "operationId": "SendEvents",
    "description": _DESCRIPTION,
    "parameters": [
        {"name": "Content-Encoding", "in": "header", "required": False, "schema": {"enum": ["gzip", "zstd"]}}
    ],
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {
                "schema": {"oneOf": [_EVENT_SCHEMA, {"type": "array", "items": _EVENT_SCHEMA, "maxItems": 10_000}]},
                "examples": {"one": {"value": _EVENT}, "several": {"value": [_EVENT, {**_EVENT, "id": "evt-2"}]}},
            },
            "application/x-ndjson": {
                "schema": {"type": "string"},
                "example": '{"id": "evt-1", "type": "api.request", "customer": "acme"}\n',
            },
            "application/cloudevents+json": {"schema": _CLOUDEVENT_SCHEMA, "example": _CLOUDEVENT},
            "application/cloudevents-batch+json": {
                "schema": {"type": "array", "items": _CLOUDEVENT_SCHEMA, "maxItems": 10_000},
                "example": [_CLOUDEVENT],
            },
        },
    },
    "responses": {
        "202": {
            "description": "The log has all that is not in `rejected`.",
            "headers": _LIMIT_HEADERS,
            "content": {"application/json": {**_ANSWER, "example": {"accepted": 999, "rejected": [_REJECTED]}}},
        },
        "401": _problem("No key, or one that is unknown or revoked."),
        "403": _problem("The key lacks `events:write`."),
        "413": _problem("Too many bytes or events."),
        "415": _problem("Another media type or encoding."),
        "422": {
            "description": "Every event was refused; or the body as a whole, which is a problem.",
            "content": {
                "application/json": {**_ANSWER, "example": {"accepted": 0, "rejected": [{**_REJECTED, "index": 0}]}},
                "application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}},
            },
        },
        "429": _problem("Too many bytes are being worked on: `Retry-After`."),
        "503": _problem("The log, or the keys, do not answer: `Retry-After`, then send all of it again."),
    },
}
