"""The contract of a customer, as it leaves for the balances worker."""

from datetime import datetime
from typing import Any

import msgspec
from msgspec.structs import replace
from sqlalchemy import Row, or_, select
from sqlalchemy.ext.asyncio import AsyncConnection

from domain.contracts import GrantedFeature, HeldPlan, held_entitlements
from domain.customers import references_of
from domain.identity import customer_partition
from domain.subscriptions.grants import GrantedSpan, granted_spans
from schemas.contracts import CustomerContract
from schemas.customers import Customer
from schemas.entitlements import EntitlementSpec
from schemas.scope import Scope
from schemas.topics import CONTRACTS_CHANGED
from stores.postgres import outbox
from stores.postgres.subscriptions import life_of, subscriptions_of
from stores.postgres.tables import features, meters, plan_entitlements, plan_versions, subscriptions


async def publish_contract(
    conn: AsyncConnection, scope: Scope, customer: Customer, version: int, known_at: datetime, partitions: int
) -> CustomerContract:
    """Writes the customer's whole contract to the outbox, in the caller's transaction.

    `version` is the catalog version the transaction took: versions commit in order, so of two contracts of a customer
    the greater version is the newer, and readers that see one twice keep it once.
    """
    held = await _held_plans(conn, customer.id, known_at)
    contract = CustomerContract(
        version=version,
        tenant=scope.tenant,
        environment=scope.environment,
        customer_id=customer.id,
        references=references_of(customer),
        entitlements=held_entitlements(held, known_at),
    )
    await outbox.enqueue(
        conn,
        CONTRACTS_CHANGED,
        customer_partition(scope.tenant, scope.environment, customer.id, partitions),
        f"{scope.tenant}/{scope.environment}/{customer.id}".encode(),
        msgspec.json.encode(contract),
    )
    return contract


async def _held_plans(conn: AsyncConnection, customer_id: str, known_at: datetime) -> list[HeldPlan]:
    query = (
        select(subscriptions, plan_versions.c.plan_id, plan_versions.c.cadence)
        .join(plan_versions, plan_versions.c.id == subscriptions.c.plan_version_id)
        .where(
            subscriptions.c.customer_id == customer_id,
            or_(subscriptions.c.end_at.is_(None), subscriptions.c.end_at > known_at),
        )
    )
    rows = (await conn.execute(query)).all()
    spans = {row.id: _spans(row, known_at) for row in rows}
    version_ids = {span.plan_version_id for found in spans.values() for span in found}
    granted = await _granted(conn, version_ids | {row.plan_version_id for row in rows})
    held: list[HeldPlan] = []
    for row, subscription in zip(rows, await subscriptions_of(conn, rows, known_at), strict=True):
        plain = HeldPlan(
            subscription=subscription, cadence=row.cadence, features=tuple(granted.get(row.plan_version_id, ()))
        )
        if row.life is None:
            held.append(plain)
        held += [
            replace(plain, features=tuple(granted.get(version_id, ())), starts_at=start, ends_at=end)
            for start, end, version_id in spans[row.id]
        ]
    return held


def _spans(row: Row[Any], known_at: datetime) -> list[GrantedSpan]:
    life = life_of(row)
    return [] if life is None else granted_spans(life, known_at)


async def _granted(conn: AsyncConnection, version_ids: set[str]) -> dict[str, list[GrantedFeature]]:
    query = (
        select(
            plan_entitlements.c.plan_version_id,
            plan_entitlements.c.terms,
            features.c.id,
            features.c.key,
            features.c.kind,
            features.c.meter_id,
            meters.c.generation,
            meters.c.definition,
        )
        .join(features, features.c.id == plan_entitlements.c.feature_id)
        .outerjoin(meters, meters.c.id == features.c.meter_id)
        .where(plan_entitlements.c.plan_version_id.in_(version_ids))
    )
    granted: dict[str, list[GrantedFeature]] = {}
    for row in await conn.execute(query):
        granted.setdefault(row.plan_version_id, []).append(_feature(row))
    return granted


def _feature(row: Any) -> GrantedFeature:
    terms: EntitlementSpec = msgspec.convert(row.terms, EntitlementSpec)
    counted = (
        {} if row.meter_id is None else {"aggregation": row.definition["aggregation"], "generation": row.generation}
    )
    return GrantedFeature(
        terms=terms,
        feature_id=row.id,
        feature_key=row.key,
        kind=row.kind,
        meter_id=row.meter_id or "",
        **counted,
    )
