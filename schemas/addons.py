"""Add-ons: rate cards and entitlements sold on top of a plan, in a quantity."""

from datetime import datetime

from msgspec import Struct

from schemas.entitlements import EntitlementSpec
from schemas.plan_phases import RateCard, RateCardSpec
from schemas.plans import PlanStatus


class AddonSpec(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`plans` are keys of the plans that it goes with; none: any plan of its currency. `max_quantity` None: any number."""

    key: str
    name: str = ""
    currency: str  # ISO 4217, upper case
    max_quantity: int | None = 1
    plans: tuple[str, ...] = ()
    rate_cards: tuple[RateCardSpec, ...]
    entitlements: tuple[EntitlementSpec, ...] = ()


class AddonVersion(Struct, frozen=True, kw_only=True):
    """One version of an add-on. Fees count once for each unit that is held, usage prices once whatever the quantity."""

    id: str
    addon_id: str
    addon_key: str
    name: str = ""
    version: int
    status: PlanStatus
    currency: str
    max_quantity: int | None
    plans: tuple[str, ...] = ()
    rate_cards: tuple[RateCard, ...]
    entitlements: tuple[EntitlementSpec, ...] = ()
    published_at: datetime | None = None
    archived_at: datetime | None = None
