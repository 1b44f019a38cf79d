"""Customers and the references that events may name them by."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Row, Text, and_, delete, func, insert, select, update
from sqlalchemy.dialects.postgresql import array
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncConnection

from domain.customers import references_of
from domain.errors import NotFound
from schemas.catalog import CatalogChange, CustomerBody
from schemas.customers import Customer
from schemas.scope import Scope
from stores.postgres import catalog_log
from stores.postgres.rows import in_scope, page, refuse_taken
from stores.postgres.tables import customer_references, customers

_ALIASES = (
    select(func.coalesce(func.array_agg(customer_references.c.reference), array((), type_=Text)))
    .where(customer_references.c.customer_id == customers.c.id, customer_references.c.kind == "alias")
    .correlate(customers)
    .scalar_subquery()
    .label("aliases")
)
_SELECT = select(customers, _ALIASES)


def _customer(row: Row[Any]) -> Customer:
    return Customer(
        id=row.id,
        external_id=row.external_id,
        name=row.name,
        aliases=tuple(sorted(row.aliases)),
        timezone=row.timezone,
        currency=row.currency,
        address=tuple(row.address),
        email=row.email,
        tax_id=row.tax_id,
        attributes=row.attributes,
        revision=row.revision,
        created_at=row.created_at,
        archived_at=row.archived_at,
    )


async def create_customer(conn: AsyncConnection, scope: Scope, customer: Customer) -> int:
    """Keeps the customer and tells the workers its references; returns the catalog version that does.

    Safe to repeat by its references: one that is taken raises Conflict `reference_taken`.
    """
    version: int = await catalog_log.begin_version(conn)
    scoped = {"tenant": scope.tenant, "environment": scope.environment}
    values = {
        "id": customer.id,
        "external_id": customer.external_id,
        "name": customer.name,
        "timezone": customer.timezone,
        "currency": customer.currency,
        **_printed(customer),
        "attributes": customer.attributes,
        "known_in": version,
        "created_at": customer.created_at,
    }
    await conn.execute(insert(customers).values({**scoped, **values}))
    await _insert_references(conn, scope, customer)
    await _record(conn, version, scope, customer)
    return version


async def change_customer(conn: AsyncConnection, scope: Scope, customer: Customer) -> tuple[Customer, int]:
    """The customer as given, with its aliases replaced; returns it as kept, and the catalog version."""
    version: int = await catalog_log.begin_version(conn)
    await conn.execute(
        update(customers)
        .where(in_scope(customers, scope), customers.c.id == customer.id)
        .values(
            name=customer.name,
            timezone=customer.timezone,
            currency=customer.currency,
            **_printed(customer),
            attributes=customer.attributes,
            archived_at=customer.archived_at,
            known_in=version,
            revision=customers.c.revision + 1,
        )
    )
    await conn.execute(delete(customer_references).where(customer_references.c.customer_id == customer.id))
    await _insert_references(conn, scope, customer)
    await _record(conn, version, scope, customer)
    return await get_customer(conn, scope, customer.id), version


def _printed(customer: Customer) -> dict[str, Any]:
    return {"address": list(customer.address), "email": customer.email, "tax_id": customer.tax_id}


async def _insert_references(conn: AsyncConnection, scope: Scope, customer: Customer) -> None:
    kinds = ["id", *([] if customer.external_id is None else ["external_id"]), *["alias"] * len(customer.aliases)]
    rows = [
        {
            "tenant": scope.tenant,
            "environment": scope.environment,
            "reference": reference,
            "customer_id": customer.id,
            "kind": kind,
        }
        for reference, kind in zip(references_of(customer), kinds, strict=True)
    ]
    try:
        await conn.execute(insert(customer_references), rows)
    except IntegrityError as error:
        message = "another customer has this external id or one of these aliases, or one is named twice"
        raise refuse_taken(error, "reference_taken", message) from error


async def _record(conn: AsyncConnection, version: int, scope: Scope, customer: Customer) -> None:
    body = CustomerBody(id=customer.id, references=references_of(customer))
    change = CatalogChange(
        kind="customer",
        tenant=scope.tenant,
        environment=scope.environment,
        key=customer.id,
        body={"id": body.id, "references": body.references},
    )
    await catalog_log.record(conn, version, [change])


async def get_customer(conn: AsyncConnection, scope: Scope, reference: str) -> Customer:
    """By id, external id or alias. Raises NotFound `customer_not_found`."""
    query = _SELECT.join(
        customer_references,
        and_(customer_references.c.customer_id == customers.c.id, in_scope(customer_references, scope)),
    ).where(customer_references.c.reference == reference)
    row = (await conn.execute(query)).first()
    if row is None:
        raise NotFound("customer_not_found", f"there is no customer {reference!r}; create it with POST /v1/customers")
    return _customer(row)


async def lock_customer(conn: AsyncConnection, scope: Scope, reference: str) -> Customer:
    """The same, held until the transaction ends: who changes it waits here, and sees what was changed before.

    Raises NotFound `customer_not_found`.
    """
    found = await get_customer(conn, scope, reference)
    row = select(customers.c.id).where(in_scope(customers, scope), customers.c.id == found.id)
    await conn.execute(row.with_for_update())
    return await get_customer(conn, scope, found.id)


async def list_customers(
    conn: AsyncConnection, scope: Scope, *, limit: int, after: str | None, search: str | None
) -> list[Customer]:
    """Customers that are not archived, oldest first, up to `limit + 1`; `search` is part of a name or external id."""
    query = _SELECT.where(in_scope(customers, scope), customers.c.archived_at.is_(None))
    if search:
        part = search.replace("\\", r"\\").replace("%", r"\%").replace("_", r"\_")
        matches = func.concat_ws(" ", customers.c.external_id, customers.c.name, customers.c.id)
        query = query.where(matches.ilike(f"%{part}%", escape="\\"))
    rows = await conn.execute(page(query, customers.c.id, limit=limit, after=after))
    return [_customer(row) for row in rows]


async def customers_by_id(conn: AsyncConnection, ids: Sequence[str]) -> dict[str, Customer]:
    """Customers by id, whatever their tenant: for jobs that run over all of them."""
    rows = await conn.execute(_SELECT.where(customers.c.id.in_(ids)))
    return {row.id: _customer(row) for row in rows}


async def archive_customer(conn: AsyncConnection, scope: Scope, customer: Customer, archived_at: datetime) -> None:
    """Hidden from lists; its references stay taken, and its usage stays counted. Repeating it changes nothing."""
    await conn.execute(
        update(customers)
        .where(in_scope(customers, scope), customers.c.id == customer.id, customers.c.archived_at.is_(None))
        .values(archived_at=archived_at, revision=customers.c.revision + 1)
    )
