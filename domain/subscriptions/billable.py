"""What closings can bill of a subscription. Anything else is refused before it is sold."""

from domain.errors import Invalid
from domain.rate_cards import cards_of_versions
from domain.subscriptions.terms import plan_at
from schemas.subscription_life import Life, Sold


def check_billable(life: Life, sold: Sold) -> None:
    """A closing bills the periods of one cadence, when they have ended.

    Raises Invalid `terms_not_billable`: another cadence than the plan's, in advance, or new billing periods from
    a change on.
    """
    versions = [sold.plans[plan.plan_version_id] for plan in life.plans]
    cadence = sold.plans[plan_at(life, life.created_at).plan_version_id].cadence
    cards = cards_of_versions(versions, [sold.addons[each.addon_version_id] for each in life.addons])
    if any(version.cadence != cadence for version in versions):
        raise _refused(f"the plan is billed every {cadence.unit}, and so must be the one that it is changed to")
    if any(card.cadence != cadence for card in cards):
        raise _refused("all prices of a subscription must have the cadence of its plan")
    if any(card.timing != "in_arrears" for card in cards):
        raise _refused("prices must be billed in arrears")
    if any(plan.reset_anchor for plan in life.plans):
        raise _refused("billing periods go on from the same anchor")


def _refused(message: str) -> Invalid:
    return Invalid("terms_not_billable", f"closings cannot bill this yet: {message}")
