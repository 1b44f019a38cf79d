"""What a plan or an add-on must be before it is sold: every wrong field is told at once."""

from collections.abc import Callable, Collection, Mapping, Sequence

from msgspec import Struct

from domain.errors import Invalid
from domain.keys import validate_key
from domain.money import minor_units
from domain.periods import validate_cadence
from domain.plan_cadences import cadences_fit
from domain.plans import check_entitlements, repeated, validate_grants, validate_quantity
from domain.pricing.validate import validate_price
from domain.wrong_fields import WrongFields
from schemas.addons import AddonSpec
from schemas.entitlements import EntitlementSpec
from schemas.features import Feature
from schemas.periods import Cadence
from schemas.plan_phases import PhaseSpec, PlanVersionSpec, RateCardSpec

MAX_PHASES = 100


class Catalog(Struct, frozen=True, kw_only=True):
    """What plans may refer to, by the reference used (id or key): features and meters that are not archived."""

    features: Mapping[str, Feature] = {}
    meters: Collection[str] = ()


def validate_plan_version(spec: PlanVersionSpec, catalog: Catalog) -> None:
    """Everything that publishing asks of a version. Raises Invalid with every wrong field as a detail.

    Codes: `key_malformed`, `unknown_currency`, `cadence_out_of_range`, `cadence_mismatch`, `phases_missing`,
    `too_many_phases`, `phase_key_repeated`, `phases_overlap`, `phases_gap`, `trial_not_first`, `price_key_repeated`,
    `usage_in_advance`, `meter_unknown`, `feature_unknown`, and those of `validate_price` and `validate_plan`.
    """
    errors = WrongFields()
    _key(errors, "/key", spec.key, "pla")
    _taken(errors, "/currency", lambda: minor_units(spec.currency))
    cadence = spec.cadence if _cadence(errors, "/cadence", spec.cadence) else None
    _phases(errors, spec.phases)
    for position, phase in enumerate(spec.phases):
        pointer = f"/phases/{position}"
        _rate_cards(errors, f"{pointer}/rate_cards", phase.rate_cards, cadence, catalog)
        _entitlements(errors, f"{pointer}/entitlements", phase.entitlements, catalog)
    errors.refuse()


def validate_addon(spec: AddonSpec, catalog: Catalog) -> None:
    """Everything that publishing asks of an add-on. Raises Invalid as `validate_plan_version` does.

    Codes besides: `rate_cards_missing`, `addon_quantity_out_of_range`. Whether cadences fit is decided with each plan.
    """
    errors = WrongFields()
    _key(errors, "/key", spec.key, "add")
    _taken(errors, "/currency", lambda: minor_units(spec.currency))
    if spec.max_quantity is not None and spec.max_quantity < 1:
        errors.wrong("/max_quantity", "addon_quantity_out_of_range", "at least one of an add-on can be held")
    if not spec.rate_cards and not spec.entitlements:
        errors.wrong("/rate_cards", "rate_cards_missing", "an add-on sells something: a rate card or an entitlement")
    for position, card in enumerate(spec.rate_cards):
        if card.cadence is None:
            message = "a rate card of an add-on names its cadence: plans of several cadences may take it"
            errors.wrong(f"/rate_cards/{position}/cadence", "cadence_missing", message)
    _rate_cards(errors, "/rate_cards", spec.rate_cards, None, catalog)
    _entitlements(errors, "/entitlements", spec.entitlements, catalog)
    errors.refuse()


def _taken(errors: WrongFields, pointer: str, check: Callable[[], object]) -> bool:
    try:
        check()
    except Invalid as refused:
        errors.take(pointer, refused)
        return False
    return True


def _key(errors: WrongFields, pointer: str, key: str, id_prefix: str) -> None:
    try:
        validate_key(key, id_prefix)
    except Invalid as refused:
        errors.wrong(pointer, refused.code, refused.message)


def _cadence(errors: WrongFields, pointer: str, cadence: Cadence) -> bool:
    """Whether periods of it can be compared with others."""
    if cadence.unit == "never":
        errors.wrong(pointer, "cadence_mismatch", "what is billed comes round: a cadence of `never` does not")
        return False
    return _taken(errors, pointer, lambda: validate_cadence(cadence))


def _phases(errors: WrongFields, phases: Sequence[PhaseSpec]) -> None:
    if not any(not phase.trial for phase in phases):
        errors.wrong("/phases", "phases_missing", "a plan has at least one phase that is no trial")
    if len(phases) > MAX_PHASES:
        errors.wrong("/phases", "too_many_phases", f"at most {MAX_PHASES} phases are taken")
    _unique(errors, "/phases", "phase_key_repeated", [phase.key for phase in phases])
    for position, phase in enumerate(phases):
        pointer = f"/phases/{position}"
        last = position == len(phases) - 1
        if phase.trial and position:
            errors.wrong(f"{pointer}/trial", "trial_not_first", "only the first phase can be a trial")
        if phase.duration is not None:
            _cadence(errors, f"{pointer}/duration", phase.duration)
            if last:
                errors.wrong(
                    f"{pointer}/duration", "phases_gap", "the last phase does not end: nothing would follow it"
                )
        elif not last:
            errors.wrong(f"{pointer}/duration", "phases_overlap", "a phase that another one follows has a duration")


def _unique(errors: WrongFields, pointer: str, code: str, names: Sequence[str]) -> None:
    for message in repeated(names):
        errors.wrong(pointer, code, message)


def _rate_cards(
    errors: WrongFields, pointer: str, cards: Sequence[RateCardSpec], plan_cadence: Cadence | None, catalog: Catalog
) -> None:
    _unique(errors, pointer, "price_key_repeated", [card.price.key for card in cards])
    for position, card in enumerate(cards):
        here = f"{pointer}/{position}"
        _price(errors, here, card, catalog)
        if card.cadence is None or not _cadence(errors, f"{here}/cadence", card.cadence):
            continue
        if plan_cadence is not None and not cadences_fit(card.cadence, plan_cadence):
            message = "its periods and those of the plan cross each other"
            errors.wrong(f"{here}/cadence", "cadence_mismatch", message)


def _price(errors: WrongFields, pointer: str, card: RateCardSpec, catalog: Catalog) -> None:
    _key(errors, f"{pointer}/price/key", card.price.key, "pri")
    _taken(errors, "", lambda: validate_price(card.price.price, f"{pointer}/price/price"))
    _taken(errors, "", lambda: validate_quantity(card.price.quantity, f"{pointer}/price/quantity"))
    meter = card.price.meter
    if meter is None:
        return
    if meter not in catalog.meters:
        errors.wrong(f"{pointer}/price/meter", "meter_unknown", f"there is no meter {meter!r}, or it is archived")
    if card.timing == "in_advance":
        errors.wrong(
            f"{pointer}/timing", "usage_in_advance", "usage is known when its period has ended: bill it in arrears"
        )


def _entitlements(
    errors: WrongFields, pointer: str, entitlements: tuple[EntitlementSpec, ...], catalog: Catalog
) -> None:
    for position, entitlement in enumerate(entitlements):
        if entitlement.feature not in catalog.features:
            message = f"there is no feature {entitlement.feature!r}, or it is archived"
            errors.wrong(f"{pointer}/{position}/feature", "feature_unknown", message)
    known = tuple(each for each in entitlements if each.feature in catalog.features)
    _taken(errors, pointer, lambda: validate_grants(entitlements, pointer))
    _taken(errors, pointer, lambda: check_entitlements(known, catalog.features, pointer))
