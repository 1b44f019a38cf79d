"""What plans and add-ons refer to, looked up: meters and features by id or key."""

from collections.abc import Mapping, Sequence

from msgspec import Struct
from sqlalchemy.ext.asyncio import AsyncConnection

from domain.plan_validation import Catalog
from domain.rate_cards import features_named, meters_named
from schemas.entitlements import EntitlementSpec
from schemas.features import Feature
from schemas.kept_meters import KeptMeter
from schemas.plan_phases import RateCardSpec
from schemas.scope import Scope
from stores.postgres import features, meters


class Named(Struct, frozen=True, kw_only=True):
    """By the reference used; what is not there is left out."""

    features: Mapping[str, Feature]
    meters: Mapping[str, KeptMeter]

    @property
    def meter_ids(self) -> dict[str, str]:
        return {name: meter.id for name, meter in self.meters.items()}

    @property
    def catalog(self) -> Catalog:
        """What can be sold: nothing that is archived."""
        return Catalog(
            features={name: feature for name, feature in self.features.items() if feature.archived_at is None},
            meters={name for name, meter in self.meters.items() if meter.archived_at is None},
        )


async def look_up(
    conn: AsyncConnection, scope: Scope, cards: Sequence[RateCardSpec], entitlements: Sequence[EntitlementSpec]
) -> Named:
    """What these cards and entitlements name, archived ones too."""
    return Named(
        features=await features.features_named(conn, scope, features_named(entitlements)),
        meters=await meters.meters_named(conn, scope, meters_named(cards)),
    )
