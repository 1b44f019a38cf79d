"""Rate cards as clients post them and as versions keep them, and what they and entitlements refer to."""

from collections.abc import Callable, Iterable, Mapping

from msgspec.structs import replace

from schemas.addons import AddonVersion
from schemas.entitlements import EntitlementSpec
from schemas.features import Feature
from schemas.periods import Cadence
from schemas.plan_phases import PlanVersion, RateCard, RateCardSpec
from schemas.prices import PlanPrice, PlanPriceSpec


def kept_card(
    card: RateCardSpec, currency: str, cadence: Cadence, meters: Mapping[str, str], new_id: Callable[[str], str]
) -> RateCard:
    """With an id of its own. `cadence` is that of a card that names none; `meters` are ids by the reference used."""
    meter = card.price.meter
    price = PlanPrice(
        id=new_id("pri"),
        key=card.price.key,
        name=card.price.name,
        currency=currency,
        price=card.price.price,
        meter_id=None if meter is None else meters.get(meter, meter),
        quantity=card.price.quantity,
    )
    return RateCard(price=price, timing=card.timing, cadence=card.cadence or cadence)


def card_spec(card: RateCard) -> RateCardSpec:
    """What would make this card again, with an id for its meter."""
    price = PlanPriceSpec(
        key=card.price.key,
        name=card.price.name,
        price=card.price.price,
        meter=card.price.meter_id,
        quantity=card.price.quantity,
    )
    return RateCardSpec(price=price, timing=card.timing, cadence=card.cadence)


def cards_of_versions(plans: Iterable[PlanVersion], addons: Iterable[AddonVersion]) -> list[RateCard]:
    """Every card of every phase of the plans, and then those of the add-ons."""
    cards = [card for plan in plans for phase in plan.phases for card in phase.rate_cards]
    return [*cards, *(card for addon in addons for card in addon.rate_cards)]


def meters_named(cards: Iterable[RateCardSpec]) -> list[str]:
    """The references to meters, each once."""
    return list(dict.fromkeys(card.price.meter for card in cards if card.price.meter is not None))


def features_named(entitlements: Iterable[EntitlementSpec]) -> list[str]:
    """The references to features, each once."""
    return list(dict.fromkeys(each.feature for each in entitlements))


def resolved_cards(cards: Iterable[RateCard], meters: Mapping[str, str]) -> tuple[RateCard, ...]:
    """With ids in place of references to meters that are known."""
    return tuple(_resolved(card, meters) for card in cards)


def _resolved(card: RateCard, meters: Mapping[str, str]) -> RateCard:
    meter = card.price.meter_id
    if meter is None or meter not in meters:
        return card
    return replace(card, price=replace(card.price, meter_id=meters[meter]))


def resolved_entitlements(
    entitlements: Iterable[EntitlementSpec], features: Mapping[str, Feature]
) -> tuple[EntitlementSpec, ...]:
    """With ids in place of references to features that are known."""
    return tuple(
        replace(each, feature=features[each.feature].id) if each.feature in features else each for each in entitlements
    )
