"""The beginning of a history: a subscription is written down and sold in one go."""

from datetime import UTC, datetime

from domain.subscriptions.periods import validate_start
from schemas.customers import Customer
from schemas.plans import Plan
from schemas.subscription_changes import Activate, ChangeRequest, Create
from schemas.subscriptions import SubscriptionSpec


def begin_requests(
    spec: SubscriptionSpec, customer: Customer, plan: Plan, now: datetime, *, made_by: str, key: str
) -> tuple[ChangeRequest, ChangeRequest]:
    """Its creation, and its activation at its start (default: `now`). Raises what `validate_start` raises."""
    start_at = now.replace(microsecond=0) if spec.start_at is None else spec.start_at
    validate_start(start_at)
    create = Create(
        customer_id=customer.id,
        plan_version_id=plan.version_id,
        currency=plan.currency,
        billing=spec.billing,
        timezone=spec.timezone or customer.timezone,
        quantities=spec.quantities,
    )
    return (
        ChangeRequest(change=create, made_by=made_by, key=f"{key}/1"),
        ChangeRequest(
            change=Activate(trial_end_at=spec.trial_end_at),
            when=start_at.astimezone(UTC),
            made_by=made_by,
            key=f"{key}/2",
        ),
    )
