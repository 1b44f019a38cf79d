"""`/v1/cuts`: which instants of the past usage can be read at, and a new one on demand (protocol 10)."""

import contextlib
from collections.abc import Sequence
from datetime import datetime
from typing import Any

from litestar import Controller, Request, get, post
from msgspec import Struct

from api.auth import Principal, require
from api.conventions import Page, PageLimit
from api.deps import ApiDeps
from api.live import watch_of
from api.usage_question import From, To, parse_instant
from domain.errors import Conflict, Invalid
from schemas.cuts import RaisedCut
from stores.postgres.cutoffs import reach_of, reaches_of
from stores.postgres.cuts import Cuts

COMPLETE_WITHIN_S = 2.0
_LARGEST_CUT = (1 << 63) - 1


class Cut(Struct, frozen=True, kw_only=True):
    """`?at=<cut>` answers what was counted before `raised_at`; every event answered 202 before `reaches` is in it.

    While it is not `complete`, blocks of before are still being stored and nothing can be read at it.
    """

    cut: int
    raised_at: datetime
    complete: bool
    reaches: datetime


class NewCut(Cut, frozen=True, kw_only=True):
    """`raised` is false where the newest cut was too young to be followed by another: this is that one."""

    raised: bool


class CutsController(Controller):
    path = "/v1/cuts"
    tags = ("usage",)

    @get("/", guards=[require("usage:read")])
    async def list(
        self,
        request: Request[Any, Any, Any],
        principal: Principal,  # noqa: ARG002 - cuts are the same for all tenants
        deps: ApiDeps,
        limit: PageLimit = 50,
        cursor: str | None = None,
        start: From = None,
        end: To = None,
    ) -> Page[Cut]:
        """Newest first. The cutoff of an instant is the first one with `to` at that instant."""
        found = await Cuts(deps.engine).list(
            limit=limit + 1,
            below=_cut_of(cursor),
            start=parse_instant("from", start),
            end=parse_instant("to", end),
        )
        items = await _described(request, deps, found[:limit])
        return Page(items=items, next_cursor=str(items[-1].cut) if len(found) > limit else None)

    @post("/", guards=[require("usage:read")], status_code=200)
    async def raise_now(
        self,
        request: Request[Any, Any, Any],
        principal: Principal,  # noqa: ARG002
        deps: ApiDeps,
    ) -> NewCut:
        """A cutoff of all that is counted now. Safe to repeat: another cutoff, the same meaning."""
        cuts, now = Cuts(deps.engine), deps.clock.now()
        cut = await cuts.raise_cut(deps.settings.closing.cut_min_interval_s, now)
        with contextlib.suppress(Conflict):  # a worker is away: the answer says that the cut is not complete
            await cuts.wait_complete(cut, COMPLETE_WITHIN_S)
        [made] = await _described(request, deps, await cuts.list(limit=1, below=cut + 1))
        return NewCut(
            cut=made.cut,
            raised_at=made.raised_at,
            complete=made.complete,
            reaches=made.reaches,
            raised=made.raised_at == now,
        )


async def as_of_answer(request: Request[Any, Any, Any], deps: ApiDeps, at: int | None) -> datetime:
    """`as_of` of an answer about usage: of one at a cut, once it can be read, or of now. Ask before the data is read.

    Raises NotFound `cut_unknown` and Conflict `cut_open`.
    """
    reader = watch_of(request.app.state, deps).reader
    if at is None:
        return (await reader.progress()).as_of
    await Cuts(deps.engine).require_complete(at, COMPLETE_WITHIN_S)
    return (await reach_of(deps.engine, await reader.topic_id(), at)).as_of


async def _described(request: Request[Any, Any, Any], deps: ApiDeps, found: Sequence[RaisedCut]) -> list[Cut]:
    oldest = await Cuts(deps.engine).oldest_open()
    topic_id = await watch_of(request.app.state, deps).reader.topic_id()
    reaches = await reaches_of(deps.engine, topic_id, [one.cut for one in found])
    return [
        Cut(
            cut=one.cut,
            raised_at=one.raised_at,
            complete=oldest is None or oldest >= one.cut,
            reaches=reaches[one.cut].as_of,
        )
        for one in found
    ]


def _cut_of(cursor: str | None) -> int | None:
    if cursor is None:
        return None
    digits = cursor.isascii() and cursor.isdigit() and len(cursor) <= len(str(_LARGEST_CUT))
    if not (digits and int(cursor) <= _LARGEST_CUT):
        raise Invalid("cursor_invalid", "this cursor is none that a list has answered with")
    return int(cursor)
