"""Who asks: `Authorization: Bearer <key>`; the key carries tenant, environment and scopes."""

import asyncio
from collections.abc import Awaitable, Callable
from hashlib import sha256
from typing import Any, Protocol, TypeVar

import msgspec
import structlog
from litestar import Request
from litestar.connection import ASGIConnection
from litestar.handlers import BaseRouteHandler

from api.errors import ScopeMissing, Unauthorized
from domain.errors import Unavailable
from runtime import metrics
from schemas.keys import ALL_SCOPES, ApiKey
from schemas.scope import Scope

Connection = ASGIConnection[Any, Any, Any, Any]

_BEARER = "bearer "
_STATE = "principal"
# Unknown keys are remembered too, so that a client with a wrong key costs no query each time; this bounds the memory.
_CACHE_MAX = 10_000
# While keys cannot be looked up they are tried again this often, whatever the number of requests.
_ASK_AGAIN_S = 1.0

V = TypeVar("V")

_log = structlog.get_logger(__name__)


class Principal(msgspec.Struct, frozen=True, kw_only=True):
    """The owner of a valid key. An object of another tenant or environment does not exist for it (404)."""

    tenant: str
    environment: str
    scopes: frozenset[str]
    key_id: str

    @property
    def scope(self) -> Scope:
        return Scope(self.tenant, self.environment)

    def may(self, scope: str) -> bool:
        return scope in self.scopes or ALL_SCOPES in self.scopes


class KeyLookup(Protocol):
    async def find(self, text: str) -> ApiKey | None:
        """The key with this full text, unless there is none or it is revoked. Raises Unavailable."""
        ...


class _Owner(msgspec.Struct, frozen=True, kw_only=True):
    """Whose key it is, as it was known at an instant of the steady clock."""

    principal: Principal
    known_at: float


class Authenticator:
    """Key look-ups, each kept `cache_s`: a revoked key stops working within that time, and a new one starts.

    While keys cannot be looked up, or take longer than `renewal_wait_s`, a key that was valid stays so for `stale_max_s`
    after its last look-up; what is not known is then refused as Unavailable, never as unknown.
    """

    def __init__(
        self,
        keys: KeyLookup,
        cache_s: float,
        monotonic: Callable[[], float],
        *,
        stale_max_s: float = 900.0,
        renewal_wait_s: float = 1.0,
        lookup_timeout_s: float = 5.0,
    ) -> None:
        self._keys = keys
        self._cache_s = cache_s
        self._stale_max_s = stale_max_s
        self._renewal_wait_s = renewal_wait_s
        self._lookup_timeout_s = lookup_timeout_s
        self._monotonic = monotonic
        # By digest: no secret is kept. Apart, so that a flood of wrong keys drives no valid one out.
        self._owners: dict[bytes, _Owner] = {}
        self._unknown_until: dict[bytes, float] = {}
        self._asking: dict[bytes, asyncio.Task[Principal | None]] = {}
        self._away = False
        self._ask_again_at = 0.0

    async def authenticate(self, authorization: str | None) -> Principal:
        """The principal of an Authorization header. Raises Unauthorized, or Unavailable when keys cannot be read."""
        if authorization is None or authorization[: len(_BEARER)].lower() != _BEARER:
            raise Unauthorized
        key = authorization[len(_BEARER) :].strip()
        digest = sha256(key.encode()).digest()
        now = self._monotonic()
        owner = self._owners.get(digest)
        if owner is not None and now < owner.known_at + self._cache_s:
            return owner.principal
        if owner is not None and now < owner.known_at + self._stale_max_s:
            principal = await self._renewed(key, digest, owner.principal)
        elif self._unknown_until.get(digest, now) > now:
            principal = None
        else:
            principal = await self._found(key, digest)
        if principal is None:
            raise Unauthorized("the key is unknown or revoked")
        return principal

    async def _found(self, key: str, digest: bytes) -> Principal | None:
        asked = self._look_up(key, digest)
        # Waited for, not awaited: a client that goes away must not cancel the look-up that others wait for.
        await asyncio.wait([asked], timeout=self._lookup_timeout_s)
        if not asked.done():
            raise Unavailable("postgres", f"the key could not be looked up within {self._lookup_timeout_s:g} s")
        return asked.result()

    async def _renewed(self, key: str, digest: bytes, known: Principal) -> Principal | None:
        """The answer of now, if it comes soon; else what was known. While keys cannot be read nobody waits for them."""
        if self._away:
            if self._monotonic() >= self._ask_again_at and not self._asking:
                self._look_up(key, digest)  # the next requests learn from it that keys can be read again
            metrics.api_stale_keys.inc()
            return known
        asked = self._look_up(key, digest)
        await asyncio.wait([asked], timeout=self._renewal_wait_s)
        if asked.done() and asked.exception() is None:
            return asked.result()
        if asked.done() and not isinstance(asked.exception(), Unavailable):
            return asked.result()  # a bug, to be answered as one
        if not self._away:
            _log.warning("keys cannot be looked up: those that are known go on", for_s=self._stale_max_s)
        self._away = True
        metrics.api_stale_keys.inc()
        return known

    def _look_up(self, key: str, digest: bytes) -> "asyncio.Task[Principal | None]":
        """One query a key at a time: requests that come meanwhile wait for the same answer."""
        asked = self._asking.get(digest)
        if asked is None:
            asked = self._asking[digest] = asyncio.ensure_future(self._find(key, digest))
            asked.add_done_callback(lambda done: self._answered(digest, done))
        return asked

    async def _find(self, key: str, digest: bytes) -> Principal | None:
        asked_at = self._monotonic()
        found = await self._keys.find(key)
        if found is None:
            self._owners.pop(digest, None)
            _keep(self._unknown_until, digest, asked_at + self._cache_s)
            return None
        principal = Principal(
            tenant=found.tenant, environment=found.environment, scopes=frozenset(found.scopes), key_id=found.id
        )
        _keep(self._owners, digest, _Owner(principal=principal, known_at=asked_at))
        return principal

    def _answered(self, digest: bytes, asked: "asyncio.Task[Principal | None]") -> None:
        self._asking.pop(digest, None)
        if asked.cancelled() or asked.exception() is not None:
            self._ask_again_at = self._monotonic() + _ASK_AGAIN_S
        else:
            self._away = False


def _keep(kept: dict[bytes, V], digest: bytes, value: V) -> None:
    """At the end of the order of eviction."""
    kept.pop(digest, None)
    if len(kept) >= _CACHE_MAX:
        kept.pop(next(iter(kept)))
    kept[digest] = value


async def principal_of(connection: Connection) -> Principal:
    """The caller; authenticates once a request."""
    state = connection.scope["state"]
    known: Principal | None = state.get(_STATE)
    if known is None:
        auth: Authenticator = connection.app.state.deps.auth
        known = state[_STATE] = await auth.authenticate(connection.headers.get("authorization"))
    return known


async def provide_principal(request: Request[Any, Any, Any]) -> Principal:
    """For handlers that take `principal: Principal`."""
    return await principal_of(request)


def require(scope: str) -> Callable[[Connection, BaseRouteHandler], Awaitable[None]]:
    """A guard: the caller's key must be valid and hold `scope` (or `*`), else 401 or 403."""

    async def guard(connection: Connection, _: BaseRouteHandler) -> None:
        check_scope(await principal_of(connection), scope)

    return guard


def check_scope(principal: Principal, scope: str) -> None:
    """Raises ScopeMissing."""
    if not principal.may(scope):
        raise ScopeMissing(f"the key lacks the scope {scope}")
