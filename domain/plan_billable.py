"""What closings can bill of a version: whatever they cannot is refused before it is sold, so that no period fails.

The one place to lift a refusal in once closings learn more.
"""

from domain.errors import Invalid
from domain.plans import check_price_billable
from domain.wrong_fields import WrongFields
from schemas.plan_phases import PlanVersionSpec, RateCardSpec


def check_version_billable(spec: PlanVersionSpec) -> None:
    """Of a version that `validate_plan_version` takes. Raises Invalid with every field that closings cannot bill.

    Code `price_not_billable`: in advance, at another cadence than the plan's, or needing more usage than closings read.
    """
    errors = WrongFields()
    for position, phase in enumerate(spec.phases):
        for number, card in enumerate(phase.rate_cards):
            _card(errors, f"/phases/{position}/rate_cards/{number}", card, spec)
    errors.refuse()


def _card(errors: WrongFields, pointer: str, card: RateCardSpec, spec: PlanVersionSpec) -> None:
    if card.timing == "in_advance":
        message = "closings bill in arrears so far: sell it with timing in_arrears"
        errors.wrong(f"{pointer}/timing", "price_not_billable", message)
    if card.cadence is not None and card.cadence != spec.cadence:
        message = "closings bill all prices of a plan at its cadence so far: leave the cadence out"
        errors.wrong(f"{pointer}/cadence", "price_not_billable", message)
    check_card_billable(errors, pointer, card, spec.currency)


def check_card_billable(errors: WrongFields, pointer: str, card: RateCardSpec, currency: str) -> None:
    """The price of a card alone, whatever it is sold with."""
    try:
        check_price_billable(card.price, currency, f"{pointer}/price/price")
    except Invalid as refused:
        errors.take(pointer, refused)
