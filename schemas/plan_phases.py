"""What a plan sells, phase by phase: rate cards (a price with how it is billed), phases, and versions of plans."""

from datetime import datetime
from typing import Literal

from msgspec import Struct

from schemas.entitlements import EntitlementSpec
from schemas.periods import Cadence
from schemas.plans import PlanStatus
from schemas.prices import PlanPrice, PlanPriceSpec

BillingTiming = Literal["in_advance", "in_arrears"]


class RateCardSpec(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A price with how it is billed, as a client posts it. `cadence` defaults to the plan's."""

    price: PlanPriceSpec
    timing: BillingTiming = "in_arrears"
    cadence: Cadence | None = None


class RateCard(Struct, frozen=True, kw_only=True):
    """A price with how it is billed. `in_advance` is billed when its period begins, `in_arrears` when it has ended."""

    price: PlanPrice
    timing: BillingTiming
    cadence: Cadence


class PhaseSpec(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A stretch of a plan with prices of its own.

    `duration` is None for the last phase, which does not end by itself. In a `trial` nothing is charged; only the first
    phase can be one.
    """

    key: str
    name: str = ""
    duration: Cadence | None = None
    trial: bool = False
    rate_cards: tuple[RateCardSpec, ...] = ()
    entitlements: tuple[EntitlementSpec, ...] = ()


class PlanVersionSpec(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A draft of a plan. `family` names plans that a customer chooses between; a higher `level` in it is an upgrade."""

    key: str
    name: str = ""
    family: str | None = None
    level: int = 0
    currency: str  # ISO 4217, upper case
    cadence: Cadence = Cadence(unit="month")
    phases: tuple[PhaseSpec, ...]


class Phase(Struct, frozen=True, kw_only=True):
    """A phase as it is kept. `entitlements[].feature` are feature ids."""

    key: str
    name: str = ""
    duration: Cadence | None = None
    trial: bool = False
    rate_cards: tuple[RateCard, ...] = ()
    entitlements: tuple[EntitlementSpec, ...] = ()


class PlanVersion(Struct, frozen=True, kw_only=True):
    """One version of a plan with its phases. It is never edited once published.

    `cadence` is the rhythm of the plan: "at period end" means the end of this period.
    """

    id: str
    plan_id: str
    plan_key: str
    name: str = ""
    family: str | None = None
    level: int = 0
    version: int
    status: PlanStatus
    currency: str
    cadence: Cadence
    phases: tuple[Phase, ...]
    published_at: datetime | None = None
    archived_at: datetime | None = None


class KeptPlanVersion(PlanVersion, frozen=True, kw_only=True):
    """As PostgreSQL keeps it. Its `revision` counts the edits of the draft."""

    revision: int
    created_at: datetime
