"""Changing a subscription in one transaction: its history, its row, and what its customer is entitled to."""

from collections.abc import Iterable
from datetime import datetime
from typing import Any

from litestar import Request
from sqlalchemy.ext.asyncio import AsyncConnection

from api.auth import Principal
from api.conventions import IDEMPOTENCY_KEY, check_match
from api.deps import ApiDeps
from domain.subscriptions.amend import amended
from domain.subscriptions.asked import Asked
from domain.subscriptions.begin import told_by_row
from domain.subscriptions.fold import fold
from domain.subscriptions.holding import holding
from domain.subscriptions.preview import check_reach, difference
from schemas.customers import Customer
from schemas.subscription_changes import Cancel, ChangePlan, ChangeRequest, History, SetAddon
from schemas.subscription_life import ChangePreview, Sold
from schemas.subscriptions import Subscription
from stores.postgres import catalog_log, contracts, customers, plans, subscriptions
from stores.postgres.late_usage import begin_look_at_billed
from stores.postgres.sold import sold_of
from stores.postgres.subscription_history import history_of


def change_key(request: Request[Any, Any, Any], deps: ApiDeps) -> str:
    """What makes the changes of a request safe to repeat: its `Idempotency-Key`, else a key of its own."""
    return request.headers.get(IDEMPOTENCY_KEY) or deps.ids.new("chg")


def billed_to(held: Subscription) -> datetime | None:
    """Where closings have got to; None while no period is closed."""
    first = held.trial_end_at or held.start_at
    return held.closed_to if held.closed_to > first else None


async def publish(conn: AsyncConnection, deps: ApiDeps, principal: Principal, customer: Customer) -> None:
    """The customer's contract as the transaction leaves it. Nothing of the catalog changed: an empty version keeps
    versions without a gap.
    """
    version = await catalog_log.begin_version(conn)
    await catalog_log.record(conn, version, [])
    partitions = deps.settings.kafka.balance_partitions
    await contracts.publish_contract(conn, principal.scope, customer, version, deps.clock.now(), partitions)


async def amend(
    conn: AsyncConnection,
    request: Request[Any, Any, Any],
    deps: ApiDeps,
    principal: Principal,
    subscription_id: str,
    asked: Asked,
) -> Subscription:
    """The subscription after the changes. Its row is locked first: requests that race come one after another, and each
    is checked against what the one before it left.

    Raises what `amended` raises; PreconditionFailed for `If-Match`.
    """
    now = deps.clock.now()
    held = await subscriptions.get_subscription(conn, principal.scope, subscription_id, now, for_update=True)
    if not isinstance(asked.changes[0], Cancel):
        check_match(request, held.revision)
    kept = await history_of(conn, held.id)
    history = kept or await _told(conn, principal, held)
    requests = asked.requests(principal.key_id, change_key(request, deps))
    sold = await _sold(conn, history, requests)
    changed = amended(history, requests, sold, now, billed_to(held))
    if not changed.records:
        return held  # a cancellation that is repeated, whatever revision it was asked for
    check_match(request, held.revision)
    row = holding(changed.life, sold, now, billed_to(held))
    records = changed.records if kept else (*history, *changed.records)
    await subscriptions.change_subscription(conn, principal.scope, held.id, row, records)
    if row.next_close_at is None:
        # No closing comes any more: what is late is looked for from now on.
        await begin_look_at_billed(conn, held.id, now)
    customer = await customers.get_customer(conn, principal.scope, held.customer_id)
    await publish(conn, deps, principal, customer)
    return await subscriptions.get_subscription(conn, principal.scope, held.id, now)


async def preview(
    conn: AsyncConnection,
    request: Request[Any, Any, Any],
    deps: ApiDeps,
    principal: Principal,
    subscription_id: str,
    asked: Asked,
) -> ChangePreview:
    """What `amend` would do. Nothing is written; it raises the same."""
    now = deps.clock.now()
    held = await subscriptions.get_subscription(conn, principal.scope, subscription_id, now)
    check_match(request, held.revision)
    history = await history_of(conn, held.id) or await _told(conn, principal, held)
    requests = asked.requests(principal.key_id, deps.ids.new("chg"))
    sold = await _sold(conn, history, requests)
    changed = amended(history, requests, sold, now, billed_to(held))
    before, effective_at = fold(history), changed.records[0].effective_at
    check_reach(before, sold, effective_at, now)
    return difference(before, changed.life, effective_at, sold, now)


async def _told(conn: AsyncConnection, principal: Principal, held: Subscription) -> History:
    """Of a subscription that was kept without a history."""
    plan = await plans.get_plan_version(conn, principal.scope, held.plan_version_id)
    return told_by_row(held, plan.currency)


async def _sold(conn: AsyncConnection, history: History, requests: Iterable[ChangeRequest]) -> Sold:
    changes = [each.change for each in requests]
    wanted = [change.plan_version_id for change in changes if isinstance(change, ChangePlan)]
    taken = [change.addon_version_id for change in changes if isinstance(change, SetAddon)]
    return await sold_of(conn, [fold(history)], wanted, taken)
