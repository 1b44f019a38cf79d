"""Add-ons: rate cards and entitlements sold on top of a plan, in a quantity."""

from datetime import datetime

from msgspec import UNSET, Struct, UnsetType

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


class AddonVersionPatch(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is left out stays; the rest replaces what the draft says."""

    max_quantity: int | UnsetType | None = UNSET
    plans: tuple[str, ...] | UnsetType = UNSET
    rate_cards: tuple[RateCardSpec, ...] | UnsetType = UNSET
    entitlements: tuple[EntitlementSpec, ...] | UnsetType = UNSET


class AddonVersionDraft(AddonVersionPatch, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A new version: as the version `from_version` is, where nothing else is said.

    `from_version` is a number or an id; default: the newest published version, or the newest where none is.
    """

    from_version: int | str | None = None


class AddonPatch(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Only the name: what an add-on sells is changed by a new version."""

    name: str


class AddonTerms(Struct, frozen=True, kw_only=True):
    """What a version of an add-on says, as it is kept. `entitlements[].feature` are feature ids once it is published."""

    max_quantity: int | None
    plans: tuple[str, ...] = ()
    rate_cards: tuple[RateCard, ...] = ()
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


class KeptAddonVersion(AddonVersion, frozen=True, kw_only=True):
    """As PostgreSQL keeps it. Its `revision` counts the edits of the draft."""

    revision: int
    created_at: datetime


class Addon(Struct, frozen=True, kw_only=True):
    """An add-on at its newest published version, or at its newest draft while none is published."""

    id: str
    key: str
    name: str
    currency: str
    version: int
    version_id: str
    status: PlanStatus
    max_quantity: int | None
    plans: tuple[str, ...]
    rate_cards: tuple[RateCard, ...]
    entitlements: tuple[EntitlementSpec, ...]
    revision: int
    created_at: datetime
    archived_at: datetime | None
