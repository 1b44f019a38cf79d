"""API keys as the authenticator asks for them, without a database."""

import asyncio
from datetime import UTC, datetime

from domain.errors import Unavailable
from schemas.keys import ApiKey

GOOD = ApiKey(
    id="key_1",
    tenant="acme",
    environment="live",
    name="",
    prefix="aaaaa",
    scopes=["usage:read"],
    created_at=datetime(2026, 1, 1, tzinfo=UTC),
    revoked_at=None,
)


class Keys:
    """Knows the key `good` until it is revoked; counts how often it was asked. It answers while `answering` is set."""

    def __init__(self) -> None:
        self.asked = 0
        self.known = {"good": GOOD}
        self.away = False
        self.answering = asyncio.Event()
        self.answering.set()

    async def find(self, text: str) -> ApiKey | None:
        self.asked += 1
        await asyncio.sleep(0)
        await self.answering.wait()
        if self.away:
            raise Unavailable("postgres", "away")
        return self.known.get(text)
