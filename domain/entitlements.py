"""Whether a customer may use a feature, and which thresholds a change of usage crosses (semantics, credits and grants)."""

from collections.abc import Sequence
from datetime import datetime
from decimal import Decimal

from msgspec.structs import replace

from domain.counters import counts_from
from domain.errors import Invalid
from domain.money import EXACT, HUNDREDTH, ZERO
from schemas.contracts import Entitlement
from schemas.entitlements import CheckAnswer, CheckReason, ThresholdCrossing


def combined(held: Sequence[Entitlement], at: datetime) -> list[Entitlement]:
    """What several subscriptions grant of one feature at an instant, in force there (`[starts_at, ends_at)`).

    Metered ones that count the same usage in the same periods add up to one: unlimited wins, soft if any is.
    Boolean: any true. Static: the newest subscription's. What counts in other periods stays apart.
    """
    merged: dict[tuple[object, ...], Entitlement] = {}
    for each in sorted(held, key=lambda entitlement: (counts_from(entitlement), entitlement.subscription_id)):
        if each.starts_at > at or (each.ends_at is not None and each.ends_at <= at):
            continue
        key = _counts_as(each)
        before = merged.get(key)
        merged[key] = each if before is None else _together(before, each)
    return list(merged.values())


def _counts_as(each: Entitlement) -> tuple[object, ...]:
    if each.kind != "metered":
        return (each.feature_id, each.kind)
    anchor = counts_from(each) if each.usage_period == "never" else each.anchor_at
    return (each.feature_id, each.meter_id, each.generation, each.usage_period, anchor, each.timezone)


def _together(before: Entitlement, each: Entitlement) -> Entitlement:
    if each.kind == "boolean":
        return replace(before, enabled=before.enabled or each.enabled)
    if each.kind == "static":
        return each
    limit = None if before.limit is None or each.limit is None else EXACT.add(before.limit, each.limit)
    return replace(before, limit=limit, soft=before.soft or each.soft)


def check(
    entitlement: Entitlement | None,
    *,
    usage: Decimal | None = None,
    quantity: Decimal = ZERO,
    resets_at: datetime | None = None,
    as_of: datetime | None = None,
    stale: bool = False,
) -> CheckAnswer:
    """Whether `quantity` more fits; of 0, whether any is left. `usage` is that of the period that ends at `resets_at`.

    `usage=None` means it is not known: reason `unknown_usage`, never "0 used". An aggregate without a value counts
    as 0, and the caller says so. Raises Invalid `quantity_negative`.
    """
    if quantity < 0:
        raise Invalid("quantity_negative", "a check asks for 0 or more")
    if entitlement is None:
        return CheckAnswer(allowed=False, reason="not_entitled", as_of=as_of, stale=stale)
    if entitlement.kind == "boolean":
        reason: CheckReason = "enabled" if entitlement.enabled else "disabled"
        return CheckAnswer(allowed=entitlement.enabled, reason=reason, as_of=as_of, stale=stale)
    if entitlement.kind == "static":
        return CheckAnswer(allowed=True, reason="enabled", config=entitlement.config, as_of=as_of, stale=stale)
    balance = overage = None
    if entitlement.limit is None:
        allowed, reason = True, "unlimited"
    elif usage is None:
        allowed, reason = False, "unknown_usage"
    else:
        left = EXACT.subtract(entitlement.limit, usage)
        fits = quantity <= left if quantity else left > 0
        allowed = fits or entitlement.soft
        reason = "within_limit" if fits else "soft_limit_exceeded" if entitlement.soft else "limit_exceeded"
        balance, overage = (left, ZERO) if left > 0 else (ZERO, EXACT.minus(left))
    return CheckAnswer(
        allowed=allowed,
        reason=reason,
        usage=usage,
        limit=entitlement.limit,
        balance=balance,
        overage=overage,
        resets_at=resets_at,
        as_of=as_of,
        stale=stale,
    )


def first_allowed(answers: Sequence[CheckAnswer]) -> CheckAnswer:
    """The answer where several entitlements count in different periods: the first that allows, else the first."""
    if not answers:
        return check(None)
    return next((answer for answer in answers if answer.allowed), answers[0])


def crossings(
    before: Decimal, after: Decimal, limit: Decimal | None, thresholds: Sequence[int]
) -> list[ThresholdCrossing]:
    """Thresholds (percent of the limit) that lie in `(before, after]`, ascending; none of unlimited usage.

    A threshold is reached when usage equals it. Of a limit of 0 every threshold lies at the first usage above 0.
    """
    if limit is None:
        return []
    crossed = []
    for percent in sorted(set(thresholds)):
        at = EXACT.multiply(EXACT.multiply(limit, Decimal(percent)), HUNDREDTH)
        if before < at <= after or (not at and before <= 0 < after):
            crossed.append(ThresholdCrossing(percent=percent, quantity=at))
    return crossed
