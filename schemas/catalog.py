"""Catalog changes as they travel on `catalog.changed`: one record a version, in order, never updated.

A version is one PostgreSQL row locked and incremented by every transaction that changes meters, customers or a
tenant's limits, so versions commit in order. A worker's catalog at version v is the fold of all changes up to v.
"""

from typing import Any, Literal

import msgspec

ChangeKind = Literal["meter", "customer", "limits"]


class CatalogChange(msgspec.Struct, frozen=True, kw_only=True):
    """The whole new body of one object; `body=None` means archived. `key` is the object's id (limits: "")."""

    kind: ChangeKind
    tenant: str
    environment: str
    key: str
    body: dict[str, Any] | None


class CatalogVersion(msgspec.Struct, frozen=True, kw_only=True):
    """Value of a `catalog.changed` record (key: the version as text)."""

    version: int
    changes: list[CatalogChange]


class CustomerBody(msgspec.Struct, frozen=True, kw_only=True):
    """Body of a `customer` change. `references` are all texts an event may name it by: id, external id, aliases."""

    id: str
    references: list[str]


class TenantLimits(msgspec.Struct, frozen=True, kw_only=True):
    """Body of a `limits` change: what is accepted, judged by the receipt time."""

    max_event_age_s: int = 35 * 86_400
    max_event_ahead_s: int = 3_600
    reject_unknown_customer: bool = False
