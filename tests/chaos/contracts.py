"""What the suite sells, and to whom: a catalog, standing customers, and those that are subscribed and billed on the way."""

from datetime import datetime, timedelta
from typing import Any

from demo.client import Client

Objects = tuple[dict[str, Any], ...]

TENANT, ENVIRONMENT = "default", "live"
HUGE = "huge"
STANDING = (HUGE, *(f"customer-{number}" for number in range(8)))
COHORTS = 4
A_COHORT = 2

METERS: Objects = (
    {"key": "calls", "event_types": ["call"], "aggregation": "count"},
    {
        "key": "tokens",
        "event_types": ["call"],
        "aggregation": "sum",
        "value_property": "tokens",
        "dimensions": ["model"],
    },
    {"key": "peak", "event_types": ["call", "gauge"], "aggregation": "max", "value_property": "tokens"},
    {"key": "users", "event_types": ["call"], "aggregation": "unique_count", "value_property": "user"},
    {"key": "level", "event_types": ["gauge"], "aggregation": "latest", "value_property": "level"},
)
FEATURES = tuple({"key": key, "kind": "metered", "meter": key} for key in ("calls", "tokens", "users"))
PLANS: Objects = (
    {
        "key": "standing",
        "currency": "EUR",
        "cadence": "month",
        "prices": [{"key": "fee", "price": {"model": "flat", "amount": "10"}}],
        "entitlements": [
            {"type": "metered", "feature": "calls", "limit": "20000", "usage_period": "never"},
            {"type": "metered", "feature": "tokens", "usage_period": "day", "limit": "1000000000"},
            {"type": "metered", "feature": "users", "usage_period": "never", "limit": "200"},
        ],
    },
    {
        "key": "hourly",
        "currency": "EUR",
        "cadence": "hour",
        "prices": [
            {"key": "fee", "price": {"model": "flat", "amount": "1.50"}},
            {
                "key": "calls",
                "meter": "calls",
                "price": {"model": "per_unit", "unit_amount": "0.0137", "free_units": "5"},
            },
            {
                "key": "tokens",
                "meter": "tokens",
                "price": {
                    "model": "graduated",
                    "tiers": [{"up_to": "1000", "unit_amount": "0.01"}, {"unit_amount": "0.0031", "flat_amount": "2"}],
                },
            },
            {"key": "peak", "meter": "peak", "price": {"model": "per_unit", "unit_amount": "0.1"}},
            {"key": "users", "meter": "users", "price": {"model": "package", "amount": "3", "package_size": "4"}},
        ],
        "entitlements": [
            {"type": "metered", "feature": "calls", "limit": "500", "usage_period": "never"},
            {"type": "metered", "feature": "tokens", "usage_period": "day"},
        ],
    },
)
FEATURES_OF = {"standing": ("calls", "tokens", "users"), "hourly": ("calls", "tokens")}
HOUR = timedelta(hours=1)
# Elapsed hours that a billed customer has had when it is subscribed.
ELAPSED_HOURS = 4


def cohort(number: int) -> tuple[str, ...]:
    """Customers that are subscribed together, on the way."""
    return tuple(f"billed-{number}-{place}" for place in range(A_COHORT))


def alias_of(customer: str) -> str:
    return f"{customer} alias"


def hours_begin(began: datetime) -> datetime:
    """The first instant that is billed: whole hours before the run."""
    return began.replace(minute=0, second=0, microsecond=0) - ELAPSED_HOURS * HOUR


async def create_catalog(client: Client, standing_since: datetime) -> None:
    """Everything that is there before the first event."""
    for meter in METERS:
        await client.send("POST", "/v1/meters", meter)
    for feature in FEATURES:
        await client.send("POST", "/v1/features", feature)
    for plan in PLANS:
        await client.send("POST", "/v1/plans", plan)
    for customer in STANDING:
        await create_customer(client, customer)
        held = {"customer": customer, "plan": "standing", "start_at": standing_since.isoformat()}
        await client.send("POST", "/v1/subscriptions", held)


async def create_customer(client: Client, customer: str) -> None:
    await client.send("POST", "/v1/customers", {"external_id": customer, "aliases": [alias_of(customer)]})
