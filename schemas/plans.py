"""Plans: prices and entitlements sold together. A version is never edited once published."""

from datetime import datetime
from typing import Literal

from msgspec import Struct

from schemas.entitlements import EntitlementSpec
from schemas.prices import PlanPrice, PlanPriceSpec

PlanCadence = Literal["hour", "day", "week", "month", "quarter", "half_year", "year"]
PlanStatus = Literal["draft", "published", "archived"]


class PlanSpec(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    key: str
    name: str = ""
    currency: str  # ISO 4217, upper case
    cadence: PlanCadence = "month"
    prices: tuple[PlanPriceSpec, ...] = ()
    entitlements: tuple[EntitlementSpec, ...] = ()


class Plan(Struct, frozen=True, kw_only=True):
    """A plan at one version. `entitlements[].feature` are feature ids."""

    id: str
    key: str
    name: str
    currency: str
    version: int
    version_id: str
    status: PlanStatus
    cadence: PlanCadence
    prices: tuple[PlanPrice, ...]
    entitlements: tuple[EntitlementSpec, ...]
    revision: int
    created_at: datetime
    archived_at: datetime | None
