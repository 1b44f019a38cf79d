"""What the demo sells: five meters, three plans, and who holds which."""

from typing import Any

Objects = tuple[dict[str, Any], ...]

METERS: Objects = (
    {"key": "flights", "aggregation": "count"},
    {"key": "miles", "aggregation": "sum", "value_property": "distance"},
    {"key": "air_minutes", "aggregation": "sum", "value_property": "air_time"},
    {"key": "aircraft", "aggregation": "unique_count", "value_property": "tailnum"},
    {"key": "longest_delay", "aggregation": "max", "value_property": "dep_delay"},
)

FEATURES: Objects = (
    {"key": "departures", "kind": "metered", "meter": "flights"},
    {"key": "priority_desk", "kind": "boolean"},
    {"key": "settlement", "kind": "static"},
)

PLANS: Objects = (
    {
        "key": "regional",
        "name": "Regional: packages of flights",
        "currency": "USD",
        "prices": [
            {"key": "fee", "price": {"model": "flat", "amount": "250.00"}},
            {
                "key": "flights",
                "meter": "flights",
                "price": {"model": "package", "amount": "40", "package_size": "100", "free_units": "500"},
            },
            {
                "key": "aircraft",
                "meter": "aircraft",
                "price": {"model": "per_unit", "unit_amount": "1.505", "free_units": "10"},
            },
        ],
        "entitlements": [
            {"type": "metered", "feature": "departures", "limit": "10000", "usage_period": "never"},
            {"type": "boolean", "feature": "priority_desk", "enabled": False},
            {"type": "static", "feature": "settlement", "config": "net-30"},
        ],
    },
    {
        "key": "national",
        "name": "National: miles by volume",
        "currency": "EUR",
        "prices": [
            {"key": "fee", "price": {"model": "flat", "amount": "500.00"}},
            {
                "key": "miles",
                "meter": "miles",
                "price": {
                    "model": "volume",
                    "tiers": [
                        {"up_to": "1000000", "unit_amount": "0.00213"},
                        {"up_to": "4000000", "unit_amount": "0.00171", "flat_amount": "75"},
                        {"unit_amount": "0.00127", "flat_amount": "120"},
                    ],
                },
            },
            {
                "key": "air_minutes",
                "meter": "air_minutes",
                "price": {"model": "per_unit", "unit_amount": "0.0113", "free_units": "20000"},
            },
        ],
        "entitlements": [
            {"type": "metered", "feature": "departures", "limit": "30000", "usage_period": "never"},
            {"type": "boolean", "feature": "priority_desk", "enabled": True},
        ],
    },
    {
        "key": "global",
        "name": "Global: miles, graduated",
        "currency": "JPY",
        "prices": [
            {"key": "fee", "price": {"model": "flat", "amount": "90000"}},
            {
                "key": "miles",
                "meter": "miles",
                "price": {
                    "model": "graduated",
                    "tiers": [
                        {"up_to": "500000", "unit_amount": "0.31", "flat_amount": "1500"},
                        {"up_to": "3000000", "unit_amount": "0.23"},
                        {"unit_amount": "0.17"},
                    ],
                },
            },
            {"key": "longest_delay", "meter": "longest_delay", "price": {"model": "per_unit", "unit_amount": "12.5"}},
        ],
        "entitlements": [
            {"type": "metered", "feature": "departures", "limit": "5000", "soft": True, "usage_period": "never"},
            {"type": "boolean", "feature": "priority_desk", "enabled": True},
        ],
    },
)


def plan_of(airlines: list[str]) -> dict[str, str]:
    """Which plan each airline holds: in turn, by the alphabet."""
    return {airline: str(PLANS[place % len(PLANS)]["key"]) for place, airline in enumerate(sorted(airlines))}
