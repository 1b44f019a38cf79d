"""The beginning of a history: a subscription is written down and sold in one go. Or it is told from a row without one."""

from datetime import UTC, datetime

from domain.subscriptions.periods import validate_start
from schemas.customers import Customer
from schemas.plans import Plan
from schemas.subscription_changes import Activate, Cancel, Change, ChangeRecord, ChangeRequest, Create, History
from schemas.subscriptions import Subscription, SubscriptionSpec


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


def told_by_row(held: Subscription, currency: str) -> History:
    """The history of a subscription that a process of before there were histories has kept: all that its row says.

    It is the same whenever it is told: created, activated and, where it has an end, cancelled.
    """
    create = Create(
        customer_id=held.customer_id,
        plan_version_id=held.plan_version_id,
        currency=currency,
        billing=held.billing,
        timezone=held.timezone,
    )
    done: list[tuple[Change, datetime]] = [
        (create, held.created_at.replace(microsecond=0)),
        (Activate(trial_end_at=held.start_at), held.start_at),
    ]
    if held.end_at is not None:
        done.append((Cancel(), held.end_at))
    return tuple(
        ChangeRecord(
            revision=number,
            change=change,
            made_by="migration",
            made_at=held.created_at,
            effective_at=at,
            key=f"migration/{number}",
        )
        for number, (change, at) in enumerate(done, 1)
    )
