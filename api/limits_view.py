"""What the API must know to judge an event: tenants' limits and known customers, folded from catalog.changed."""

from collections import defaultdict

import msgspec

from domain.errors import Unavailable
from runtime import metrics
from runtime.settings import KafkaSettings
from schemas.catalog import CatalogChange, CatalogVersion, CustomerBody, TenantLimits
from schemas.topics import CATALOG_CHANGED
from stores.kafka import Record, TopicView

Scope = tuple[str, str]

_DEFAULTS = TenantLimits()
_version_decoder = msgspec.json.Decoder(CatalogVersion)


class LimitsFold:
    """The state after the versions applied so far. Applying a version again, or an older one, changes nothing."""

    def __init__(self) -> None:
        self.version = 0
        self._limits: dict[Scope, TenantLimits] = {}
        self._references: defaultdict[Scope, dict[str, str]] = defaultdict(dict)
        self._customers: defaultdict[Scope, dict[str, list[str]]] = defaultdict(dict)

    def limits_of(self, tenant: str, environment: str) -> TenantLimits:
        return self._limits.get((tenant, environment), _DEFAULTS)

    def knows_customer(self, tenant: str, environment: str, reference: str) -> bool:
        return reference in self._references[tenant, environment]

    def apply(self, catalog: CatalogVersion) -> None:
        if catalog.version <= self.version:
            return
        for change in catalog.changes:
            if change.kind == "limits":
                self._apply_limits(change)
            elif change.kind == "customer":
                self._apply_customer(change)
        self.version = catalog.version

    def _apply_limits(self, change: CatalogChange) -> None:
        scope = (change.tenant, change.environment)
        if change.body is None:
            self._limits.pop(scope, None)
        else:
            self._limits[scope] = msgspec.convert(change.body, TenantLimits)

    def _apply_customer(self, change: CatalogChange) -> None:
        scope = (change.tenant, change.environment)
        references = self._references[scope]
        for reference in self._customers[scope].pop(change.key, ()):
            if references.get(reference) == change.key:
                del references[reference]
        if change.body is None:
            return
        body = msgspec.convert(change.body, CustomerBody)
        self._customers[scope][change.key] = body.references
        references.update(dict.fromkeys(body.references, change.key))


class LimitsView:
    """The fold, kept up to date from the topic. Judging waits for nothing: what is known now decides.

    The version that judged goes with each record, so that the worker never judges by an older one (protocol 7).
    """

    def __init__(self, settings: KafkaSettings) -> None:
        self.fold = LimitsFold()
        self._view = TopicView(settings, CATALOG_CHANGED, self._apply)

    @property
    def is_ready(self) -> bool:
        return self._view.is_ready

    def current(self) -> LimitsFold:
        """Raises Unavailable until the topic was read to its end once: defaults must not stand in for set limits."""
        if not self._view.is_ready:
            raise Unavailable("catalog", "the catalog has not been read to its end yet")
        return self.fold

    async def start(self) -> None:
        await self._view.start()

    async def caught_up(self) -> None:
        """Returns once `is_ready` has become true for the first time."""
        await self._view.caught_up()

    async def stop(self) -> None:
        await self._view.stop()

    def _apply(self, record: Record) -> None:
        if record.value is not None:
            self.fold.apply(_version_decoder.decode(record.value))
            metrics.api_catalog_version.set(self.fold.version)
