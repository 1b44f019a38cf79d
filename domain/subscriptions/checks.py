"""What the terms of a change must be, beyond the state of the subscription."""

from collections.abc import Collection
from datetime import UTC, datetime
from decimal import Decimal

from domain.addons import check_addon_fits, check_addon_quantity
from domain.errors import Conflict, Invalid, NotFound
from domain.money import minor_units
from domain.quantities import parse_quantity
from domain.subscriptions.periods import validate_start
from domain.subscriptions.terms import addons_at, plan_at, term_changes
from schemas.periods import FOREVER
from schemas.plan_phases import PlanVersion
from schemas.subscription_changes import (
    Activate,
    ChangePlan,
    ChangeRecord,
    Create,
    Pause,
    SetAddon,
    SetQuantity,
    SetTrialEnd,
    Withdraw,
)
from schemas.subscription_life import Life, Sold


def check_instant(at: datetime, name: str) -> None:
    """Raises Invalid `time_without_zone`, `instant_not_whole_seconds` (protocol 23), `instant_out_of_range`."""
    if at.tzinfo is None:
        raise Invalid("time_without_zone", f"{name} needs a zone, such as a final Z")
    if at.microsecond:
        raise Invalid("instant_not_whole_seconds", f"{name} lies on a whole second")
    if not datetime(1, 1, 2, tzinfo=UTC) < at < FOREVER:
        raise Invalid("instant_out_of_range", f"{name} lies before {FOREVER:%Y-%m-%d}")


def check_terms(life: Life | None, record: ChangeRecord, sold: Sold) -> None:
    """Raises what is wrong with the terms of a change.

    Invalid: `unknown_currency`, `currency_mixed`, `price_key_unknown`, `quantity_of_usage`, `quantity_negative` and the
    codes of `parse_quantity`, `trial_end_before_start`, `resume_before_pause`, those of `check_instant` and
    `validate_start`. Conflict: `plan_not_published`, `plan_archived`, `plan_unchanged`, `change_pending`,
    `change_in_effect`, and those of `domain.addons`. NotFound: `plan_version_not_found`, `addon_version_not_found`,
    `change_not_found`.
    """
    change = record.change
    if isinstance(change, Create):
        _check_created(change, sold)
        return
    if life is None:
        raise Conflict("history_not_begun", "a subscription begins with its creation")
    match change:
        case Activate() | SetTrialEnd() | Pause():
            _check_instants(life, change, record)
        case ChangePlan():
            _check_plan(life, change, record, sold)
        case SetQuantity():
            plan = plan_at(life, record.effective_at)
            _check_quantity(sold.plans[plan.plan_version_id], change.price_key, change.quantity)
        case SetAddon():
            _check_addon(life, change, record, sold)
        case Withdraw():
            _check_withdrawal(life, change.revision, record.made_at)
        case _:
            return


def _check_created(change: Create, sold: Sold) -> None:
    minor_units(change.currency)
    version = _sellable(sold, change.plan_version_id, change.currency)
    for key, quantity in change.quantities.items():
        _check_quantity(version, key, quantity)


def _check_instants(life: Life, change: Activate | SetTrialEnd | Pause, record: ChangeRecord) -> None:
    at = record.effective_at
    if isinstance(change, Activate):
        validate_start(at)
        if change.trial_end_at is not None:
            check_instant(change.trial_end_at, "trial_end_at")
            _check_trial_end(at, change.trial_end_at)
    elif isinstance(change, SetTrialEnd):
        _check_trial_end(life.start_at or at, at)
    elif change.resumes_at is not None:
        check_instant(change.resumes_at, "resumes_at")
        if change.resumes_at <= at:
            raise Invalid("resume_before_pause", "a pause ends after it begins")


def _sellable(sold: Sold, version_id: str, currency: str, held: Collection[str] = ()) -> PlanVersion:
    """The version, if it is for sale; one that was held before can be gone back to when it is not sold any more."""
    version = sold.plans.get(version_id)
    if version is None:
        raise NotFound("plan_version_not_found", f"there is no plan version {version_id!r}")
    if version.status == "draft":
        raise Conflict("plan_not_published", f"version {version.version} of {version.plan_key!r} is a draft")
    if version.status == "archived" and version_id not in held:
        raise Conflict("plan_archived", f"version {version.version} of {version.plan_key!r} is not sold any more")
    if version.currency != currency:
        raise Invalid("currency_mixed", f"a plan in {version.currency} does not fit a subscription in {currency}")
    return version


def _check_trial_end(start_at: datetime, end_at: datetime) -> None:
    if end_at < start_at:
        raise Invalid("trial_end_before_start", "a trial ends at the start of the subscription or later")


def _check_plan(life: Life, change: ChangePlan, record: ChangeRecord, sold: Sold) -> None:
    held_before = [plan.plan_version_id for plan in life.plans]
    version = _sellable(sold, change.plan_version_id, life.currency, held_before)
    pending = [plan for plan in life.plans if plan.at is not None and plan.at > record.made_at]
    if pending:
        raise Conflict(
            "change_pending", f"a change of plan is planned (revision {pending[0].by}): withdraw it to make another"
        )
    if plan_at(life, record.effective_at).plan_version_id == change.plan_version_id:
        raise Conflict("plan_unchanged", "the subscription holds this version of the plan already")
    planned = [each for each in life.addons if each.quantity and each.at is not None and each.at > record.effective_at]
    for version_id in {*addons_at(life, record.effective_at), *(each.addon_version_id for each in planned)}:
        check_addon_fits(sold.addons[version_id], version)


def _check_quantity(version: PlanVersion, key: str, quantity: Decimal) -> None:
    prices = [card.price for phase in version.phases for card in phase.rate_cards if card.price.key == key]
    if not prices:
        raise Invalid("price_key_unknown", f"the plan {version.plan_key!r} has no price {key!r}")
    if any(price.meter_id is not None for price in prices):
        raise Invalid("quantity_of_usage", f"the quantity of {key!r} is what its meter counts")
    if parse_quantity(quantity) < 0:
        raise Invalid("quantity_negative", "it is a number of 0 or more")


def _check_addon(life: Life, change: SetAddon, record: ChangeRecord, sold: Sold) -> None:
    addon = sold.addons.get(change.addon_version_id)
    if addon is None:
        raise NotFound("addon_version_not_found", f"there is no add-on version {change.addon_version_id!r}")
    check_addon_quantity(addon, change.quantity)
    held = change.addon_version_id in addons_at(life, record.effective_at)
    if not change.quantity:
        if not held:
            raise Conflict("addon_not_held", f"the add-on {addon.addon_key!r} is not held then")
        return
    if not held and addon.status != "published":
        raise Conflict("addon_not_published", f"version {addon.version} of {addon.addon_key!r} is not sold")
    if addon.currency != life.currency:
        raise Invalid("currency_mixed", f"an add-on in {addon.currency} does not fit a subscription in {life.currency}")
    check_addon_fits(addon, sold.plans[plan_at(life, record.effective_at).plan_version_id])


def _check_withdrawal(life: Life, revision: int, now: datetime) -> None:
    begins = [at for at, by in term_changes(life) if by == revision]
    begins += [pause.start for pause in life.pauses if pause.by == revision]
    begins += [pause.end for pause in life.pauses if pause.resumed_by == revision]
    if not begins:
        raise NotFound("change_not_found", f"no change of terms of revision {revision} is planned")
    if any(at is None or at <= now for at in begins):
        raise Conflict("change_in_effect", "a change that has taken effect is not withdrawn: make another one")
