"""What makes an add-on valid, which plans it goes with, and in what quantity."""

from domain.errors import Conflict, Invalid
from domain.plan_cadences import cadences_fit
from schemas.addons import AddonVersion
from schemas.plan_phases import PlanVersion


def check_addon_fits(addon: AddonVersion, plan: PlanVersion) -> None:
    """Raises Conflict `addon_misfit` (not for this plan); Invalid `currency_mixed`, `cadence_mismatch`."""
    if addon.currency != plan.currency:
        raise Invalid("currency_mixed", f"an add-on in {addon.currency} does not fit a plan in {plan.currency}")
    if addon.plans and plan.plan_key not in addon.plans:
        raise Conflict("addon_misfit", f"the add-on {addon.addon_key!r} does not go with the plan {plan.plan_key!r}")
    for card in addon.rate_cards:
        if not cadences_fit(card.cadence, plan.cadence):
            raise Invalid(
                "cadence_mismatch",
                f"the periods of the price {card.price.key!r} and those of the plan {plan.plan_key!r} cross each other",
            )


def check_addon_quantity(addon: AddonVersion, quantity: int) -> None:
    """Raises Invalid `addon_quantity_out_of_range`: 0 (off) to what the add-on allows."""
    most = addon.max_quantity
    if quantity < 0 or (most is not None and quantity > most):
        limit = "0 or more" if most is None else f"0 to {most}"
        raise Invalid("addon_quantity_out_of_range", f"of the add-on {addon.addon_key!r}, {limit} can be held")
