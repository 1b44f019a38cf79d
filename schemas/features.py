"""Features: what a plan grants and a check asks for."""

from datetime import datetime

from msgspec import Struct

from schemas.contracts import FeatureKind


class FeatureSpec(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`meter` (id or key) counts a metered feature; the other kinds have none."""

    key: str
    name: str = ""
    kind: FeatureKind
    meter: str | None = None


class Feature(Struct, frozen=True, kw_only=True):
    id: str
    key: str
    name: str
    kind: FeatureKind
    meter_id: str | None
    revision: int
    created_at: datetime
    archived_at: datetime | None
