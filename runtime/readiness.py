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
    """Asks all parts at once; one that has not answered within `within_s` is away."""

    def __init__(self, parts: Sequence[Part] = (), within_s: float = 2.0) -> None:
        self._parts = parts
        self._within_s = within_s
        self._seen: set[str] = set()

    async def ask(self) -> Ready:
        """What is there now. Takes `within_s` at the most."""
        found = await asyncio.gather(*(self._is_there(part) for part in self._parts))
        away = [part for part, is_there in zip(self._parts, found, strict=True) if not is_there]
        missing = tuple(part.name for part in away if self._is_needed(part))
        degraded = tuple(part.name for part in away if not self._is_needed(part))
        return Ready(ready=not missing, missing=missing, degraded=degraded)

    def _is_needed(self, part: Part) -> bool:
        return part.need == "always" or (part.need == "once" and part.name not in self._seen)

    async def _is_there(self, part: Part) -> bool:
        try:
            async with asyncio.timeout(self._within_s):
                is_there = await part.is_there()
        except TimeoutError:
            return False
        if is_there:
            self._seen.add(part.name)
        return is_there
