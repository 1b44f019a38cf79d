"""What makes a plan valid: its prices, and what it grants of which features."""

from collections import Counter
from collections.abc import Mapping, Sequence
from decimal import Decimal

from domain.errors import Conflict, Invalid, invalid_field
from domain.keys import validate_key
from domain.money import minor_units
from domain.pricing import rate_lines, validate_price
from domain.quantities import parse_quantity
from schemas.entitlements import EntitlementSpec, MeteredEntitlement
from schemas.features import Feature
from schemas.plans import Plan, PlanSpec
from schemas.price_terms import UsageTerms
from schemas.prices import PlanPriceSpec

_TYPE_OF_KIND = {"metered": "MeteredEntitlement", "boolean": "BooleanEntitlement", "static": "StaticEntitlement"}
_MAX_THRESHOLD = 1000


def validate_plan(spec: PlanSpec, id_prefix: str) -> None:
    """Everything that can be said without the catalog.

    Raises Invalid: `key_malformed`, `unknown_currency`, `price_key_repeated`, the codes of `validate_price`,
    `price_not_billable`, `feature_repeated`, `quantity_negative`, the codes of `parse_quantity`, `thresholds_malformed`.
    """
    validate_key(spec.key, id_prefix)
    minor_units(spec.currency)
    _unique([price.key for price in spec.prices], "/prices", "price_key_repeated")
    for position, price in enumerate(spec.prices):
        validate_price(price.price, f"/prices/{position}/price")
        check_price_billable(price, spec.currency, f"/prices/{position}/price")
        validate_quantity(price.quantity, f"/prices/{position}/quantity")
    validate_grants(spec.entitlements, "/entitlements")


def check_price_billable(price: PlanPriceSpec, currency: str, pointer: str) -> None:
    """Closings read one quantity a meter and period: what needs more is quoted, and not sold, so that no period fails.

    The price and the currency are valid. Raises Invalid `price_not_billable`.
    """
    commitment = price.price.commitment if isinstance(price.price, UsageTerms) else None
    if commitment is not None and commitment.per == "term":
        raise invalid_field(
            pointer, "price_not_billable", "a commitment over a term is not billed yet: commit per period"
        )
    try:
        rate_lines(price.price, Decimal(1), currency)
    except Invalid as refused:
        message = f"closings read one quantity a period, and this price needs more: {refused.message}"
        raise invalid_field(pointer, "price_not_billable", message) from None


def check_sold(plan: Plan) -> None:
    """Whether somebody can begin to hold it. Raises Conflict `plan_archived`, `plan_not_published`."""
    if plan.archived_at is not None or plan.status == "archived":
        raise Conflict("plan_archived", f"the plan {plan.key!r} is not sold any more")
    if plan.status == "draft":
        raise Conflict("plan_not_published", f"no version of the plan {plan.key!r} is published yet")


def validate_grants(entitlements: Sequence[EntitlementSpec], pointer: str) -> None:
    """What entitlements say, without the features they name.

    Raises Invalid `feature_repeated`, `quantity_negative`, the codes of `parse_quantity`, `thresholds_malformed`.
    """
    _unique([each.feature for each in entitlements], pointer, "feature_repeated")
    for position, entitlement in enumerate(entitlements):
        if isinstance(entitlement, MeteredEntitlement):
            _limits(entitlement, f"{pointer}/{position}")


def _unique(names: list[str], pointer: str, code: str) -> None:
    for message in repeated(names):
        raise invalid_field(pointer, code, message)


def repeated(names: Sequence[str]) -> list[str]:
    """A sentence for each name that stands there more than once."""
    return [f"{name!r} stands there {times} times" for name, times in Counter(names).items() if times > 1]


def validate_quantity(value: Decimal, pointer: str) -> None:
    """Raises Invalid `quantity_negative`, the codes of `parse_quantity`."""
    try:
        fitted = parse_quantity(value)
    except Invalid as invalid:
        raise invalid_field(pointer, invalid.code, invalid.message) from None
    if fitted < 0:
        raise invalid_field(pointer, "quantity_negative", "it is a number of 0 or more")


def _limits(entitlement: MeteredEntitlement, pointer: str) -> None:
    if entitlement.limit is not None:
        validate_quantity(entitlement.limit, f"{pointer}/limit")
    ordered = sorted(set(entitlement.thresholds))
    if list(entitlement.thresholds) != ordered or any(not 0 < each <= _MAX_THRESHOLD for each in ordered):
        message = f"thresholds are rising percentages from 1 to {_MAX_THRESHOLD}"
        raise invalid_field(f"{pointer}/thresholds", "thresholds_malformed", message)


def check_entitlements(
    entitlements: Sequence[EntitlementSpec], features: Mapping[str, Feature], pointer: str = "/entitlements"
) -> None:
    """`features` by the reference used. Raises Invalid `entitlement_kind_mismatch`, `feature_repeated`."""
    for position, entitlement in enumerate(entitlements):
        feature = features[entitlement.feature]
        if type(entitlement).__name__ != _TYPE_OF_KIND[feature.kind]:
            message = f"the feature {feature.key!r} is {feature.kind}: grant it with type {feature.kind!r}"
            raise invalid_field(f"{pointer}/{position}/type", "entitlement_kind_mismatch", message)
    _unique([features[each.feature].id for each in entitlements], pointer, "feature_repeated")
