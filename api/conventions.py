"""What all resources share: pages, `Idempotency-Key`, `ETag` and `If-Match`."""

from collections.abc import Awaitable, Callable, Sequence
from hashlib import sha256
from typing import Annotated, Any, Generic, Protocol, TypeVar

import msgspec
from litestar import Request, Response
from litestar.params import Parameter
from sqlalchemy.ext.asyncio import AsyncConnection

from api.auth import Principal
from api.deps import ApiDeps
from api.errors import PreconditionFailed
from api.plain_asgi import JSON
from domain.errors import FieldError, Invalid
from stores.postgres import idempotency
from stores.postgres.engine import autocommit, transaction

PAGE_MAX = 500
IDEMPOTENCY_KEY = "Idempotency-Key"
_KEY_MAX_LENGTH = 255

PageLimit = Annotated[int, Parameter(ge=1, le=PAGE_MAX, description="Items a page.")]


class Created(Protocol):
    """What is kept in versions: `revision` is its `ETag`."""

    @property
    def revision(self) -> int: ...


class Listed(Protocol):
    @property
    def id(self) -> str: ...


T = TypeVar("T")
C = TypeVar("C", bound=Created)
L = TypeVar("L", bound=Listed)


class Page(msgspec.Struct, Generic[T], frozen=True, kw_only=True):
    """`next_cursor` is what `?cursor=` takes for the next page; null on the last."""

    items: list[T]
    next_cursor: str | None = None


def page_of(found: Sequence[L], limit: int) -> Page[L]:
    """A page of what a store found: up to `limit + 1` objects in the order of their ids."""
    items = list(found[:limit])
    return Page(items=items, next_cursor=items[-1].id if len(found) > limit else None)


def etag(revision: int) -> str:
    return f'"{revision}"'


def tagged(value: C, status_code: int = 200) -> Response[C]:
    """An answer with the `ETag` of the object in it."""
    return Response(value, status_code=status_code, headers={"ETag": etag(value.revision)})


def check_match(request: Request[Any, Any, Any], revision: int) -> None:
    """Raises PreconditionFailed when `If-Match` names another revision than the object has. Without it nothing is asked."""
    wanted = request.headers.get("if-match")
    if wanted is None or wanted.strip() == "*":
        return
    if etag(revision) not in [tag.strip().removeprefix("W/") for tag in wanted.split(",")]:
        raise PreconditionFailed("somebody changed it since: read it again", {"ETag": etag(revision)})


async def created_once(
    request: Request[Any, Any, Any],
    deps: ApiDeps,
    principal: Principal,
    create: Callable[[AsyncConnection], Awaitable[Created]],
    status_code: int = 201,
) -> Response[Any]:
    """Runs `create` in one transaction and answers with what it returns.

    With an `Idempotency-Key` the answer is kept in the same transaction: the same key and body get the same answer and
    nothing is done again; another body (or path) raises Invalid `idempotency_key_reused`. An error keeps nothing.
    """
    key = _idempotency_key(request)
    if key is None:
        async with transaction(deps.engine) as conn:
            return tagged(await create(conn), status_code)
    operation = f"{request.method} {request.url.path}"
    request_hash = sha256(await request.body()).digest()
    async with transaction(deps.engine) as conn:
        kept = await idempotency.claim(conn, principal.scope, key, operation, request_hash)
        if kept is None:
            created = await create(conn)
            body = msgspec.json.encode(created)
            await idempotency.keep(conn, principal.scope, key, status_code, body)
            return Response(body, status_code=status_code, media_type=JSON, headers={"ETag": etag(created.revision)})
    if (kept.operation, kept.request_hash) != (operation, request_hash):
        raise Invalid("idempotency_key_reused", f"the {IDEMPOTENCY_KEY} was used for another request")
    headers = {"ETag": etag(msgspec.json.decode(kept.body, type=_Revised).revision), "Idempotent-Replayed": "true"}
    return Response(kept.body, status_code=kept.status, media_type=JSON, headers=headers)


async def answered_once(
    request: Request[Any, Any, Any], deps: ApiDeps, principal: Principal, work: Callable[[], Awaitable[msgspec.Struct]]
) -> Response[bytes]:
    """As `created_once`, of work that no transaction can hold: it must be safe to repeat, also by two at once.

    The first answer that is kept stands; work that ended without one is done again.
    """
    key = _idempotency_key(request)
    if key is None:
        return Response(msgspec.json.encode(await work()), status_code=200, media_type=JSON)
    operation = f"{request.method} {request.url.path}"
    request_hash = sha256(await request.body()).digest()
    async with autocommit(deps.engine) as conn:
        kept = await idempotency.find(conn, principal.scope, key)
    headers = {"Idempotent-Replayed": "true"}
    if kept is None:
        body = msgspec.json.encode(await work())
        async with transaction(deps.engine) as conn:
            kept = await idempotency.claim(conn, principal.scope, key, operation, request_hash)
            if kept is None:
                await idempotency.keep(conn, principal.scope, key, 200, body)
                kept = idempotency.KeptAnswer(operation=operation, request_hash=request_hash, status=200, body=body)
                headers = {}
    if (kept.operation, kept.request_hash) != (operation, request_hash):
        raise Invalid("idempotency_key_reused", f"the {IDEMPOTENCY_KEY} was used for another request")
    return Response(kept.body, status_code=kept.status, media_type=JSON, headers=headers)


class _Revised(msgspec.Struct):
    revision: int = 0


def _idempotency_key(request: Request[Any, Any, Any]) -> str | None:
    key = request.headers.get(IDEMPOTENCY_KEY)
    if key is not None and not 0 < len(key) <= _KEY_MAX_LENGTH:
        message = f"an {IDEMPOTENCY_KEY} is 1 to {_KEY_MAX_LENGTH} characters long"
        raise Invalid("invalid_value", message, [FieldError(pointer="", code="invalid_value", message=message)])
    return key
