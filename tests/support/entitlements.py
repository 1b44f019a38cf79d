"""Builders of entitlements for tests that need no server."""

from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import msgspec

from schemas.contracts import Entitlement

NOW = datetime(2026, 3, 20, 12, tzinfo=UTC)
BEGAN = datetime(2026, 3, 10, tzinfo=UTC)


def held(**changes: Any) -> Entitlement:
    """100 tokens a month, counted by a sum, from `BEGAN` on."""
    common = Entitlement(
        feature_id="fea_1",
        feature_key="tokens",
        kind="metered",
        subscription_id="sub_1",
        starts_at=BEGAN,
        anchor_at=BEGAN,
        meter_id="met_1",
        limit=Decimal(100),
        usage_period="month",
    )
    return msgspec.structs.replace(common, **changes)
