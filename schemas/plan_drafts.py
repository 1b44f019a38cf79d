"""What a client says of a version of a plan that is not published yet."""

from typing import Annotated

from msgspec import UNSET, Meta, Struct, UnsetType

from schemas.entitlements import EntitlementSpec
from schemas.plan_phases import PhaseSpec
from schemas.plans import PlanCadence
from schemas.prices import PlanPriceSpec

MAX_LEVEL = 1_000_000

Family = Annotated[str, Meta(min_length=1, max_length=64)]
Level = Annotated[int, Meta(ge=0, le=MAX_LEVEL)]


class PlanVersionPatch(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is left out stays. `prices` and `entitlements` are those of a plan with one phase, billed in arrears.

    Either they, or `phases`, which replaces all phases.
    """

    family: Family | UnsetType | None = UNSET
    level: Level | UnsetType = UNSET
    cadence: PlanCadence | UnsetType = UNSET
    prices: tuple[PlanPriceSpec, ...] | UnsetType = UNSET
    entitlements: tuple[EntitlementSpec, ...] | UnsetType = UNSET
    phases: tuple[PhaseSpec, ...] | UnsetType = UNSET


class PlanVersionDraft(PlanVersionPatch, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A new version: as the version `from_version` is, where nothing else is said.

    `from_version` is a number or an id; default: the newest published version, or the newest where none is.
    """

    from_version: int | str | None = None


class PlanClone(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A new plan that says what a version of another one says; `version` as `from_version` of a draft."""

    key: str
    name: str | None = None  # default: that of the plan it is made of
    version: int | str | None = None


class PlanPatch(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Only the name: what a plan sells is changed by a new version."""

    name: str
