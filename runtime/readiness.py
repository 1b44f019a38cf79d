"""What a process needs in order to serve: what is missing, and what is away although it serves."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Literal

import msgspec

Need = Literal["always", "once", "never"]


class Part(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that readiness asks for. `is_there` does not raise.

    `need`: `always` nothing can be served without it; `once` it must have been there since the process began, and what
    was learned then is enough; `never` some answers need it, the process serves all the same.
    """

    name: str
    is_there: Callable[[], Awaitable[bool]]
    need: Need = "always"


class Ready(msgspec.Struct, frozen=True, kw_only=True):
    """The answer of `/readyz`: 200 with `ready`, else 503. `degraded` names what is away although the process serves."""

    ready: bool
    missing: Sequence[str] = ()
    degraded: Sequence[str] = ()

    @property
    def status(self) -> int:
        return 200 if self.ready else 503


class Readiness:
    """Asks all parts at once; one that has not answered within `within_s` is away.

    A part that hangs is not asked again before it has answered: questions do not pile up on what is slow.
    """

    def __init__(self, parts: Sequence[Part] = (), within_s: float = 2.0) -> None:
        self._parts = parts
        self._within_s = within_s
        self._seen: set[str] = set()
        self._asked: dict[str, asyncio.Task[bool]] = {}

    async def ask(self) -> Ready:
        """What is there now. Takes `within_s` at the most."""
        asked = [self._ask(part) for part in self._parts]
        if asked:
            await asyncio.wait(asked, timeout=self._within_s)
        away = [part for part, one in zip(self._parts, asked, strict=True) if not (one.done() and one.result())]
        self._seen.update(part.name for part in self._parts if part not in away)
        missing = tuple(part.name for part in away if self._is_needed(part))
        degraded = tuple(part.name for part in away if not self._is_needed(part))
        return Ready(ready=not missing, missing=missing, degraded=degraded)

    def _is_needed(self, part: Part) -> bool:
        return part.need == "always" or (part.need == "once" and part.name not in self._seen)

    def _ask(self, part: Part) -> "asyncio.Task[bool]":
        asked = self._asked.get(part.name)
        if asked is None or asked.done():
            asked = self._asked[part.name] = asyncio.create_task(_answer(part), name=f"is {part.name} there")
        return asked


async def _answer(part: Part) -> bool:
    return await part.is_there()
