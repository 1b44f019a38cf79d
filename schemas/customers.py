"""Customers as clients post, change and read them."""

from datetime import datetime
from typing import Annotated, Any

from msgspec import UNSET, Meta, Struct, UnsetType

Reference = Annotated[str, Meta(min_length=1, max_length=255)]
Name = Annotated[str, Meta(max_length=255)]
MAX_ALIASES = 100


class CustomerSpec(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`external_id` and `aliases` are what events may name the customer by, besides its id."""

    external_id: Reference | None = None
    name: Name = ""
    aliases: tuple[Reference, ...] = ()
    timezone: str = "UTC"
    currency: str | None = None
    attributes: dict[str, Any] = {}


class CustomerPatch(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is left out stays. `aliases` replaces all of them."""

    name: Name | UnsetType = UNSET
    aliases: tuple[Reference, ...] | UnsetType = UNSET
    timezone: str | UnsetType = UNSET
    currency: str | UnsetType | None = UNSET
    attributes: dict[str, Any] | UnsetType = UNSET


class Customer(Struct, frozen=True, kw_only=True):
    id: str
    external_id: str | None
    name: str
    aliases: tuple[str, ...]
    timezone: str
    currency: str | None
    attributes: dict[str, Any]
    revision: int
    created_at: datetime
    archived_at: datetime | None
