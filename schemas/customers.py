"""Customers as clients post, change and read them."""

from datetime import datetime
from typing import Annotated, Any

from msgspec import UNSET, Meta, Struct, UnsetType

Reference = Annotated[str, Meta(min_length=1, max_length=255)]
Name = Annotated[str, Meta(max_length=255)]
# What stands on invoices: a few lines of a letter's width.
Address = Annotated[tuple[Annotated[str, Meta(max_length=200)], ...], Meta(max_length=10)]
Email = Annotated[str, Meta(max_length=254)]
TaxId = Annotated[str, Meta(max_length=64)]
MAX_ALIASES = 100


class CustomerSpec(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`external_id` and `aliases` are what events may name the customer by, besides its id.

    `address` (its lines), `email` and `tax_id` stand on invoices.
    """

    external_id: Reference | None = None
    name: Name = ""
    aliases: tuple[Reference, ...] = ()
    timezone: str = "UTC"
    currency: str | None = None
    address: Address = ()
    email: Email | None = None
    tax_id: TaxId | None = None
    attributes: dict[str, Any] = {}


class CustomerPatch(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is left out stays. `aliases` and `address` replace all of them."""

    name: Name | UnsetType = UNSET
    aliases: tuple[Reference, ...] | UnsetType = UNSET
    timezone: str | UnsetType = UNSET
    currency: str | UnsetType | None = UNSET
    address: Address | UnsetType = UNSET
    email: Email | UnsetType | None = UNSET
    tax_id: TaxId | UnsetType | None = UNSET
    attributes: dict[str, Any] | UnsetType = UNSET


class Customer(Struct, frozen=True, kw_only=True):
    id: str
    external_id: str | None
    name: str
    aliases: tuple[str, ...]
    timezone: str
    currency: str | None
    address: tuple[str, ...] = ()
    email: str | None = None
    tax_id: str | None = None
    attributes: dict[str, Any]
    revision: int
    created_at: datetime
    archived_at: datetime | None
