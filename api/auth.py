"""Who asks: `Authorization: Bearer <key>`; the key carries tenant, environment and scopes."""

import asyncio
from collections.abc import Awaitable, Callable
from hashlib import sha256
from typing import Any, Protocol

import msgspec
from litestar import Request
from litestar.connection import ASGIConnection
from litestar.handlers import BaseRouteHandler

from api.errors import ScopeMissing, Unauthorized
from schemas.keys import ALL_SCOPES, ApiKey
from schemas.scope import Scope

Connection = ASGIConnection[Any, Any, Any, Any]

_BEARER = "bearer "
_STATE = "principal"
# Unknown keys are remembered too, so that a client with a wrong key costs no query each time; this bounds the memory.
_CACHE_MAX = 10_000


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


class _Entry(msgspec.Struct, kw_only=True):
    answer: "asyncio.Future[Principal | None]"
    until: float


class Authenticator:
    """Key look-ups, each kept `cache_s`: a revoked key stops working within that time, and a new one starts."""

    def __init__(self, keys: KeyLookup, cache_s: float, monotonic: Callable[[], float]) -> None:
        self._keys = keys
        self._cache_s = cache_s
        self._monotonic = monotonic
        self._entries: dict[bytes, _Entry] = {}  # by digest: no secret is kept

    async def authenticate(self, authorization: str | None) -> Principal:
        """The principal of an Authorization header. Raises Unauthorized, or Unavailable when keys cannot be read."""
        if authorization is None or authorization[: len(_BEARER)].lower() != _BEARER:
            raise Unauthorized
        key = authorization[len(_BEARER) :].strip()
        digest = sha256(key.encode()).digest()
        entry = self._entries.get(digest)
        if entry is None or entry.until <= self._monotonic():
            entry = self._look_up(key, digest)
        # Shielded: a client that goes away must not cancel the look-up that others wait for.
        principal = await asyncio.shield(entry.answer) if not entry.answer.done() else entry.answer.result()
        if principal is None:
            raise Unauthorized("the key is unknown or revoked")
        return principal

    def _look_up(self, key: str, digest: bytes) -> _Entry:
        """One query a key at a time: requests that come meanwhile wait for the same answer."""
        if len(self._entries) >= _CACHE_MAX:
            self._entries.pop(next(iter(self._entries)))
        entry = _Entry(answer=asyncio.ensure_future(self._find(key)), until=self._monotonic() + self._cache_s)
        self._entries.pop(digest, None)  # to the end of the order of eviction
        self._entries[digest] = entry
        entry.answer.add_done_callback(lambda done: self._forget_failure(digest, done))
        return entry

    async def _find(self, key: str) -> Principal | None:
        found = await self._keys.find(key)
        if found is None:
            return None
        return Principal(
            tenant=found.tenant, environment=found.environment, scopes=frozenset(found.scopes), key_id=found.id
        )

    def _forget_failure(self, digest: bytes, done: "asyncio.Future[Principal | None]") -> None:
        if done.cancelled() or done.exception() is not None:
            self._entries.pop(digest, None)


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
