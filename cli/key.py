"""`meterstream key`: the API keys of a deployment. The secret is shown once, when it is created."""

import asyncio
import os
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Annotated, TypeVar

import msgspec
import typer

from runtime.clock import SystemClock
from runtime.ids import Ids
from runtime.logs import configure_logging
from runtime.settings import load_settings
from schemas.keys import ALL_SCOPES, ApiKey
from stores.postgres.engine import create_engine
from stores.postgres.keys import ApiKeys

app = typer.Typer(no_args_is_help=True)

T = TypeVar("T")
Json = Annotated[bool, typer.Option("--json", help="JSON instead of lines.")]


@app.callback()
def key() -> None:
    """Create, list and revoke API keys."""


@app.command()
def create(
    tenant: Annotated[str, typer.Option(help="Whose events and contracts it may touch.")],
    environment: Annotated[str, typer.Option(help="Such as live or test.")] = "live",
    scopes: Annotated[str, typer.Option(help="Comma separated; * for all.")] = ALL_SCOPES,
    name: Annotated[str, typer.Option(help="For people: who uses it.")] = "",
    json: Json = False,
) -> None:
    """Create a key and print it: it cannot be read again."""
    wanted = [scope.strip() for scope in scopes.split(",") if scope.strip()]
    made, secret = _with_keys(lambda keys: keys.create(tenant, environment, wanted, name))
    if json:
        print(msgspec.json.encode({**msgspec.to_builtins(made), "key": secret.reveal()}).decode())
    else:
        print(secret.reveal())


@app.command("list")
def list_keys(
    tenant: Annotated[str | None, typer.Option(help="Only of this tenant.")] = None, json: Json = False
) -> None:
    """All keys, revoked ones too; never their secrets."""
    found = _with_keys(lambda keys: keys.list(tenant))
    if json:
        print(msgspec.json.encode(found).decode())
        return
    for one in found:
        print(_line(one))


@app.command()
def revoke(id_or_prefix: Annotated[str, typer.Argument(help="A key's id, or its prefix.")], json: Json = False) -> None:
    """Make a key worthless, at once but for what processes remember for some seconds."""
    gone = _with_keys(lambda keys: keys.revoke(id_or_prefix))
    print(msgspec.json.encode(gone).decode() if json else _line(gone))


def _line(one: ApiKey) -> str:
    state = "active" if one.revoked_at is None else f"revoked {one.revoked_at:%Y-%m-%d %H:%M:%S}Z"
    scopes = ",".join(one.scopes)
    return f"{one.id}  ms_{one.prefix}_...  {one.tenant}/{one.environment}  {scopes}  {state}  {one.name}".rstrip()


def _with_keys(ask: Callable[[ApiKeys], Awaitable[T]]) -> T:
    async def asked() -> T:
        async with _keys() as keys:
            return await ask(keys)

    return asyncio.run(asked())


@asynccontextmanager
async def _keys() -> AsyncIterator[ApiKeys]:
    settings = load_settings(os.environ)
    configure_logging(settings.log)
    engine = create_engine(settings.postgres)
    clock = SystemClock()
    try:
        yield ApiKeys(engine, clock, Ids(clock), secrets.token_bytes)
    finally:
        await engine.dispose()
