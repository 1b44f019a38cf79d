"""Whose data: every object belongs to one tenant and environment."""

from msgspec import Struct


class Scope(Struct, frozen=True):
    tenant: str
    environment: str
