"""API keys `ms_<prefix>_<secret>`: only their sha256 is kept. The secret has 256 random bits, so no salt is needed."""

import re
import secrets
from base64 import b32encode, urlsafe_b64encode
from collections.abc import Callable, Sequence
from hashlib import sha256
from typing import Any

from sqlalchemy import Row, insert, select, update
from sqlalchemy.ext.asyncio import AsyncEngine

from domain.errors import Invalid, NotFound
from runtime.clock import Clock
from runtime.ids import Ids
from runtime.settings import Secret
from schemas.keys import SCOPES, ApiKey
from stores.postgres.engine import autocommit
from stores.postgres.tables import api_keys

PREFIX_BYTES = 5
SECRET_BYTES = 32
KEY_MAX_CHARS = 200

_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,63}")
_COLUMNS = [column for column in api_keys.c if column.name != "secret_hash"]


class ApiKeys:
    """Keys in PostgreSQL. `entropy(n)` gives n random bytes."""

    def __init__(
        self, engine: AsyncEngine, clock: Clock, ids: Ids, entropy: Callable[[int], bytes] = secrets.token_bytes
    ) -> None:
        self._engine = engine
        self._clock = clock
        self._ids = ids
        self._entropy = entropy

    async def create(
        self, tenant: str, environment: str, scopes: Sequence[str], name: str = ""
    ) -> tuple[ApiKey, Secret]:
        """A new key and its full text, which nobody can read again. Raises `Invalid`, `Unavailable`.

        Idempotency key: the hash of the secret. Not meant to be repeated: a second call makes a second key.
        """
        for field, value in (("tenant", tenant), ("environment", environment)):
            if not _NAME.fullmatch(value):
                raise Invalid(f"{field}_invalid", f"{field} {value!r}: 1 to 64 of a-z, 0-9, - and _, not - or _ first")
        wrong = [scope for scope in scopes if scope not in SCOPES]
        if wrong or not scopes:
            raise Invalid("scope_unknown", f"scopes {wrong or 'missing'}: one or more of {', '.join(SCOPES)}")
        prefix = b32encode(self._entropy(PREFIX_BYTES)).decode().lower()
        secret = urlsafe_b64encode(self._entropy(SECRET_BYTES)).decode().rstrip("=")
        text = f"ms_{prefix}_{secret}"
        row = {
            "id": self._ids.new("key"),
            "tenant": tenant,
            "environment": environment,
            "name": name,
            "prefix": prefix,
            "secret_hash": _hash(text),
            "scopes": sorted(set(scopes)),
            "created_at": self._clock.now(),
        }
        async with autocommit(self._engine) as connection:
            found = (await connection.execute(insert(api_keys).values(row).returning(*_COLUMNS))).one()
        return _key(found), Secret(text)

    async def find(self, text: str) -> ApiKey | None:
        """The key with this full text, unless there is none or it is revoked. Raises `Unavailable`."""
        if not text.startswith("ms_") or len(text) > KEY_MAX_CHARS:
            return None
        # By hash: equal hashes are equal secrets, and how long the look-up takes says nothing about one.
        statement = select(*_COLUMNS).where(api_keys.c.secret_hash == _hash(text), api_keys.c.revoked_at.is_(None))
        async with autocommit(self._engine) as connection:
            row = (await connection.execute(statement)).first()
        return None if row is None else _key(row)

    async def list(self, tenant: str | None = None) -> list[ApiKey]:
        """All keys, or those of one tenant, revoked ones too, oldest first."""
        statement = select(*_COLUMNS).order_by(api_keys.c.created_at, api_keys.c.id)
        if tenant is not None:
            statement = statement.where(api_keys.c.tenant == tenant)
        async with autocommit(self._engine) as connection:
            return [_key(row) for row in (await connection.execute(statement)).all()]

    async def revoke(self, id_or_prefix: str) -> ApiKey:
        """The key stops working once caches have expired. Raises `NotFound`.

        Idempotency key: the key's id; revoked again it keeps the first instant.
        """
        named = (api_keys.c.id == id_or_prefix) | (api_keys.c.prefix == id_or_prefix)
        once = update(api_keys).where(named, api_keys.c.revoked_at.is_(None)).values(revoked_at=self._clock.now())
        async with autocommit(self._engine) as connection:
            await connection.execute(once)
            row = (await connection.execute(select(*_COLUMNS).where(named))).first()
        if row is None:
            raise NotFound("key_not_found", f"no key has the id or prefix {id_or_prefix!r}")
        return _key(row)


def _hash(text: str) -> bytes:
    return sha256(text.encode()).digest()


def _key(row: Row[Any]) -> ApiKey:
    return ApiKey(
        id=row.id,
        tenant=row.tenant,
        environment=row.environment,
        name=row.name,
        prefix=row.prefix,
        scopes=list(row.scopes),
        created_at=row.created_at,
        revoked_at=row.revoked_at,
    )
