"""Builders of plans, add-ons and subscription lives, for tests of the decisions about them."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from decimal import Decimal

from domain.subscriptions.history import Recorded, record_change
from schemas.addons import AddonVersion
from schemas.periods import BillingAnchor, Cadence
from schemas.plan_phases import BillingTiming, Phase, PlanVersion, RateCard
from schemas.plans import PlanStatus
from schemas.prices import FlatPrice, PerUnitPrice, PlanPrice
from schemas.subscription_changes import Activate, Change, ChangeRequest, ChangeTime, Create, History
from schemas.subscription_life import BookedFee, FeeLine, Sold

MONTH = Cadence(unit="month")
YEAR = Cadence(unit="year")


def at(month: int, day: int, hour: int = 0, *, year: int = 2026) -> datetime:
    return datetime(year, month, day, hour, tzinfo=UTC)


def fee(
    key: str, amount: str, *, of: str = "pro", timing: BillingTiming = "in_advance", cadence: Cadence = MONTH
) -> RateCard:
    """A flat fee; its id is made of the plan's and its own key."""
    price = PlanPrice(id=f"{of}.{key}", key=key, currency="USD", price=FlatPrice(amount=Decimal(amount)))
    return RateCard(price=price, timing=timing, cadence=cadence)


def seats(unit_amount: str, *, of: str = "pro", quantity: int = 1, timing: BillingTiming = "in_advance") -> RateCard:
    price = PlanPrice(
        id=f"{of}.seats",
        key="seats",
        currency="USD",
        price=PerUnitPrice(unit_amount=Decimal(unit_amount)),
        quantity=Decimal(quantity),
    )
    return RateCard(price=price, timing=timing, cadence=MONTH)


def usage(*, of: str = "pro") -> RateCard:
    price = PlanPrice(
        id=f"{of}.calls",
        key="calls",
        currency="USD",
        price=PerUnitPrice(unit_amount=Decimal("0.01")),
        meter_id="met_calls",
    )
    return RateCard(price=price, timing="in_arrears", cadence=MONTH)


def plan(
    name: str,
    *cards: RateCard,
    phases: Sequence[Phase] = (),
    currency: str = "USD",
    status: PlanStatus = "published",
    cadence: Cadence = MONTH,
    level: int = 0,
) -> PlanVersion:
    return PlanVersion(
        id=name,
        plan_id=f"pla_{name}",
        plan_key=name,
        family="main",
        level=level,
        version=1,
        status=status,
        currency=currency,
        cadence=cadence,
        phases=tuple(phases) or (Phase(key="standard", rate_cards=cards),),
    )


def addon(
    name: str, *cards: RateCard, most: int | None = 10, plans: tuple[str, ...] = (), currency: str = "USD"
) -> AddonVersion:
    return AddonVersion(
        id=name,
        addon_id=f"add_{name}",
        addon_key=name,
        version=1,
        status="published",
        currency=currency,
        max_quantity=most,
        plans=plans,
        rate_cards=cards,
    )


BASIC = plan("basic", fee("base", "31", of="basic"), level=1)
PRO = plan("pro", fee("base", "310"), seats("10", quantity=2), usage(), level=2)
STORAGE = addon("storage", fee("storage", "62", of="storage"))
SOLD = Sold(plans={each.id: each for each in (BASIC, PRO)}, addons={"storage": STORAGE})


class Story:
    """A history that grows: each call makes one change at `now` and keeps what came of it."""

    def __init__(self, sold: Sold = SOLD, history: History = ()) -> None:
        self.sold = sold
        self.history = history

    def did(
        self,
        change: Change,
        now: datetime,
        when: ChangeTime | datetime = "now",
        *,
        key: str = "",
        expected: int | None = None,
        billed_to: datetime | None = None,
    ) -> Recorded:
        request = asked(change, when, key=key or f"k{len(self.history) + 1}", expected=expected)
        recorded = record_change(self.history, request, self.sold, now, billed_to)
        if not recorded.repeated:
            self.history = (*self.history, recorded.record)
        return recorded


def asked(
    change: Change, when: ChangeTime | datetime = "now", *, key: str = "key", expected: int | None = None
) -> ChangeRequest:
    return ChangeRequest(change=change, when=when, made_by="ana", key=key, expected_revision=expected)


def begun(
    start: datetime,
    *,
    of: str = "pro",
    sold: Sold = SOLD,
    now: datetime | None = None,
    billing: BillingAnchor = "anniversary",
    timezone: str = "UTC",
    quantities: Mapping[str, Decimal] | None = None,
    trial_end: datetime | None = None,
) -> Story:
    """A subscription that was created and activated at `now` (its start, unless told)."""
    story = Story(sold)
    made = start if now is None else now
    story.did(
        Create(
            customer_id="cus_1",
            plan_version_id=of,
            currency="USD",
            billing=billing,
            timezone=timezone,
            quantities=dict(quantities or {}),
        ),
        made,
    )
    story.did(Activate(trial_end_at=trial_end), made, start)
    return story


def booked(lines: Sequence[FeeLine]) -> list[BookedFee]:
    """The lines on an invoice that was paid."""
    return [BookedFee(line=line, paid=max(line.amount or Decimal(0), Decimal(0))) for line in lines]
