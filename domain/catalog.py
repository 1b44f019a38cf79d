"""The catalog at any version: the fold of all `catalog.changed` records up to it (meters, limits, customer references).

Nothing is overwritten: every key keeps its bodies by version, so an intent that names an older version is evaluated
again exactly as it was (protocol 7), while newer records have long arrived.
"""

from bisect import bisect_right
from typing import Generic, TypeVar

import msgspec

from domain.meters import CompiledMeters, compile_meters
from schemas.catalog import CatalogChange, CatalogVersion, CustomerBody, TenantLimits
from schemas.meters import Meter

Scope = tuple[str, str]
T = TypeVar("T")

UNKNOWN_CUSTOMER = ""
DEFAULT_LIMITS = TenantLimits()


class CatalogGapError(Exception):
    """A version is missing in the sequence: the log of catalog changes is not what was written."""


class _History(Generic[T]):
    """Values by version, ascending. Of two values of one version the later counts."""

    __slots__ = ("values", "versions")

    def __init__(self) -> None:
        self.versions: list[int] = []
        self.values: list[T] = []

    def add(self, version: int, value: T) -> None:
        self.versions.append(version)
        self.values.append(value)

    def at(self, version: int, default: T) -> T:
        # The hot loop asks for the newest version nearly always.
        versions = self.versions
        if versions and versions[-1] <= version:
            return self.values[-1]
        place = bisect_right(versions, version)
        return self.values[place - 1] if place else default


class CatalogLog:
    """All versions known so far. Only grows; what it says about a version it has never changes."""

    def __init__(self) -> None:
        self.head = 0
        self.references: dict[Scope, dict[str, _History[str]]] = {}
        self._named_by: dict[tuple[str, str, str], tuple[str, ...]] = {}
        self._limits: dict[Scope, _History[TenantLimits]] = {}
        self._meters: dict[Scope, _History[dict[str, Meter]]] = {}
        self._widest_age = _History[int]()
        self._compiled: dict[tuple[Scope, int], CompiledMeters] = {}

    def append(self, record: CatalogVersion) -> bool:
        """Apply the next version. False where it is known already (a record delivered twice changes nothing).

        Raises CatalogGapError where versions are missing before it: they are gapless by construction.
        """
        if record.version <= self.head:
            return False
        if record.version != self.head + 1:
            raise CatalogGapError(f"catalog version {record.version} follows {self.head}")
        for change in record.changes:
            self._apply(record.version, change)
        self.head = record.version
        return True

    def at(self, version: int) -> "Catalog":
        """The catalog at `version`, which must have arrived. Raises CatalogGapError otherwise."""
        if not 0 <= version <= self.head:
            raise CatalogGapError(f"catalog version {version} has not arrived; the newest is {self.head}")
        return Catalog(self, version)

    def limits(self, scope: Scope, version: int) -> TenantLimits:
        history = self._limits.get(scope)
        return history.at(version, DEFAULT_LIMITS) if history else DEFAULT_LIMITS

    def compiled(self, scope: Scope, version: int) -> CompiledMeters:
        history = self._meters.get(scope)
        place = bisect_right(history.versions, version) if history else 0
        found = self._compiled.get((scope, place))
        if found is None:
            meters = history.values[place - 1] if history and place else {}
            # By id: the order of meters, and with it that of matches in a row, is the same in every worker.
            found = compile_meters([meters[key] for key in sorted(meters)])
            self._compiled[scope, place] = found
        return found

    def widest_event_age_s(self, version: int) -> int:
        return self._widest_age.at(version, DEFAULT_LIMITS.max_event_age_s)

    def _apply(self, version: int, change: CatalogChange) -> None:
        scope = (change.tenant, change.environment)
        if change.kind == "meter":
            history = self._meters.setdefault(scope, _History())
            meters = dict(history.at(version, {}))
            if change.body is None:
                meters.pop(change.key, None)
            else:
                meters[change.key] = msgspec.convert(change.body, Meter)
            history.add(version, meters)
        elif change.kind == "customer":
            self._rename(version, scope, change)
        else:
            body = DEFAULT_LIMITS if change.body is None else msgspec.convert(change.body, TenantLimits)
            self._limits.setdefault(scope, _History()).add(version, body)
            # protocol 21: the filter is one for all tenants, so the widest limit there ever was decides its memory.
            age = max(body.max_event_age_s, self.widest_event_age_s(version))
            self._widest_age.add(version, age)

    def _rename(self, version: int, scope: Scope, change: CatalogChange) -> None:
        body = None if change.body is None else msgspec.convert(change.body, CustomerBody)
        references = self.references.setdefault(scope, {})
        now = () if body is None else tuple(body.references)
        owner = (*scope, change.key)
        for reference in set(self._named_by.get(owner, ())) - set(now):
            history = references[reference]
            if history.at(version, UNKNOWN_CUSTOMER) == change.key:  # another customer may have taken it over since
                history.add(version, UNKNOWN_CUSTOMER)
        for reference in now:
            references.setdefault(reference, _History()).add(version, change.key)
        self._named_by[owner] = now


class Catalog:
    """What holds at one version. Cheap to make: it looks everything up in the log that it was made from."""

    __slots__ = ("_log", "version")

    def __init__(self, log: CatalogLog, version: int) -> None:
        self._log = log
        self.version = version

    def accepted_at(self, version: int) -> "Catalog":
        """The catalog that the API accepted a record by; this one for a record that names no version.

        protocol 7: a 202 is never rejected later, also when limits were narrowed before the record came into a block.
        """
        return Catalog(self._log, version) if 0 < version < self.version else self

    def limits(self, tenant: str, environment: str) -> TenantLimits:
        return self._log.limits((tenant, environment), self.version)

    def resolve(self, tenant: str, environment: str, reference: str) -> str:
        """The id of the customer that an event names by id, external id or alias; "" where there is none."""
        references = self._log.references.get((tenant, environment))
        history = references.get(reference) if references else None
        return history.at(self.version, UNKNOWN_CUSTOMER) if history else UNKNOWN_CUSTOMER

    def compiled(self, tenant: str, environment: str) -> CompiledMeters:
        return self._log.compiled((tenant, environment), self.version)

    @property
    def widest_event_age_s(self) -> int:
        """The widest `max_event_age_s` of any tenant up to this version: what the duplicate filter must remember."""
        return self._log.widest_event_age_s(self.version)
