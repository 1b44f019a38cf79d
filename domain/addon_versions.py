"""Versions of add-ons: a draft is edited, published, archived; what was published never changes."""

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime

from msgspec import UNSET
from msgspec.structs import replace

from domain.errors import Conflict, invalid_field
from domain.plan_billable import check_card_billable
from domain.plan_validation import Catalog, validate_addon
from domain.plan_versions import check_editable
from domain.rate_cards import card_spec, kept_card, resolved_cards, resolved_entitlements
from domain.wrong_fields import WrongFields
from schemas.addons import Addon, AddonSpec, AddonVersion, AddonVersionPatch
from schemas.features import Feature
from schemas.plan_phases import RateCard, RateCardSpec


def draft_addon(
    spec: AddonSpec,
    *,
    addon_id: str,
    version: int,
    features: Mapping[str, Feature],
    meters: Mapping[str, str],
    new_id: Callable[[str], str],
) -> AddonVersion:
    """The draft of `spec` with ids of its own; references to features and meters become ids where they are known.

    `features` and `meters` (to ids) are by the reference used; `plans` are keys already. Raises Invalid
    `cadence_missing`: plans of several cadences may take it, so each card names its own.
    """
    return AddonVersion(
        id=new_id("adv"),
        addon_id=addon_id,
        addon_key=spec.key,
        name=spec.name,
        version=version,
        status="draft",
        currency=spec.currency,
        max_quantity=spec.max_quantity,
        plans=spec.plans,
        rate_cards=_cards(spec.rate_cards, spec.currency, meters, new_id),
        entitlements=resolved_entitlements(spec.entitlements, features),
    )


def _cards(
    cards: Sequence[RateCardSpec], currency: str, meters: Mapping[str, str], new_id: Callable[[str], str]
) -> tuple[RateCard, ...]:
    kept = []
    for position, card in enumerate(cards):
        if card.cadence is None:
            message = "a rate card of an add-on names its cadence: plans of several cadences may take it"
            raise invalid_field(f"/rate_cards/{position}/cadence", "cadence_missing", message)
        kept.append(kept_card(card, currency, card.cadence, meters, new_id))
    return tuple(kept)


def addon_spec_of(version: AddonVersion) -> AddonSpec:
    """What would make this version again, with ids for references."""
    return AddonSpec(
        key=version.addon_key,
        name=version.name,
        currency=version.currency,
        max_quantity=version.max_quantity,
        plans=version.plans,
        rate_cards=tuple(card_spec(card) for card in version.rate_cards),
        entitlements=version.entitlements,
    )


def revised_addon(base: AddonSpec, patch: AddonVersionPatch) -> AddonSpec:
    """`base` with what the patch says."""
    return replace(
        base,
        max_quantity=base.max_quantity if patch.max_quantity is UNSET else patch.max_quantity,
        plans=base.plans if patch.plans is UNSET else patch.plans,
        rate_cards=base.rate_cards if patch.rate_cards is UNSET else patch.rate_cards,
        entitlements=base.entitlements if patch.entitlements is UNSET else patch.entitlements,
    )


def named_plans(plans: Sequence[str], known: Mapping[str, str]) -> tuple[str, ...]:
    """Keys of the plans that an add-on goes with; `known` are keys by the reference used. Raises Invalid `plan_unknown`."""
    for position, plan in enumerate(plans):
        if plan not in known:
            raise invalid_field(f"/plans/{position}", "plan_unknown", f"there is no plan {plan!r}")
    return tuple(dict.fromkeys(known[plan] for plan in plans))


def publish_addon(version: AddonVersion, catalog: Catalog, meters: Mapping[str, str], now: datetime) -> AddonVersion:
    """The version, for sale from now on, with ids in place of all references.

    Raises Conflict `version_not_draft`; Invalid as `validate_addon`, and `price_not_billable`.
    """
    check_editable(version)
    spec = addon_spec_of(version)
    validate_addon(spec, catalog)
    errors = WrongFields()
    for position, card in enumerate(spec.rate_cards):
        check_card_billable(errors, f"/rate_cards/{position}", card, spec.currency)
    errors.refuse()
    return replace(
        version,
        status="published",
        published_at=now,
        rate_cards=resolved_cards(version.rate_cards, meters),
        entitlements=resolved_entitlements(version.entitlements, catalog.features),
    )


def check_addon_open(addon: Addon) -> None:
    """Raises Conflict `addon_archived`: it gets no more versions."""
    if addon.archived_at is not None:
        raise Conflict("addon_archived", f"the add-on {addon.key!r} is archived and gets no more versions")


def archive_addon_version(version: AddonVersion, now: datetime) -> AddonVersion:
    """Not sold any more; who holds it keeps it. Repeating it changes nothing. Raises Conflict `addon_not_published`."""
    if version.status == "draft":
        raise Conflict("addon_not_published", "a draft is deleted, not archived")
    return version if version.status == "archived" else replace(version, status="archived", archived_at=now)
