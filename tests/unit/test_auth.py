"""Keys: how often they are looked up, and what holds while they cannot be."""

import asyncio

import pytest

from api.auth import Authenticator
from api.errors import Unauthorized
from domain.errors import Unavailable
from tests.support.keys import Keys


class Case:
    """An authenticator on a clock that is set by hand."""

    def __init__(self) -> None:
        self.now = 0.0
        self.keys = Keys()
        patience = {"stale_max_s": 60.0, "renewal_wait_s": 0.01, "lookup_timeout_s": 0.01}
        self.auth = Authenticator(self.keys, 2, lambda: self.now, **patience)

    async def tenant(self, key: str = "good") -> str:
        return (await self.auth.authenticate(f"Bearer {key}")).tenant

    async def known(self) -> "Case":
        assert await self.tenant() == "acme"
        return self


async def settled() -> None:
    """What was begun in the background has ended."""
    for _ in range(10):
        await asyncio.sleep(0)


async def test_a_key_is_looked_up_once_a_while_and_a_revoked_one_stops_working() -> None:
    case = Case()
    found = await asyncio.gather(*(case.tenant() for _ in range(50)))
    assert set(found) == {"acme"}
    assert case.keys.asked == 1
    case.keys.known.clear()
    case.now = 1.9
    assert (await case.auth.authenticate("bearer good")).key_id == "key_1"
    case.now = 2.0
    for header in ("Bearer good", "Bearer other", "Bearer other", "Basic good", "", None):
        with pytest.raises(Unauthorized):
            await case.auth.authenticate(header)
    assert case.keys.asked == 3


async def test_a_look_up_that_failed_is_not_remembered() -> None:
    case = Case()
    case.keys.away = True
    with pytest.raises(Unavailable):
        await case.tenant()
    case.keys.away = False
    assert await case.tenant() == "acme"


async def test_a_known_key_goes_on_while_keys_cannot_be_looked_up_and_for_no_longer_than_is_said() -> None:
    case = await Case().known()
    case.keys.away = True
    for case.now in (3.0, 30.0, 59.9):
        assert await case.tenant() == "acme"
    case.now = 60.0
    with pytest.raises(Unavailable):
        await case.tenant()


async def test_a_key_that_is_not_known_is_never_refused_as_unknown_while_keys_cannot_be_looked_up() -> None:
    case = await Case().known()
    with pytest.raises(Unauthorized):
        await case.tenant("other")
    case.keys.away, case.now = True, 3.0
    for key in ("other", "new"):
        with pytest.raises(Unavailable):
            await case.tenant(key)


async def test_a_look_up_that_hangs_holds_a_known_key_up_once_and_briefly() -> None:
    case = await Case().known()
    case.keys.answering.clear()
    for case.now in (3.0, 4.0, 5.0):
        assert await asyncio.gather(*(case.tenant() for _ in range(20))) == ["acme"] * 20
    assert case.keys.asked == 2, "the look-up that hangs is the only one"
    case.keys.known.clear()
    case.keys.answering.set()
    await settled()
    with pytest.raises(Unauthorized):
        await case.tenant()


async def test_a_key_that_is_not_known_waits_for_a_look_up_that_hangs_only_so_long() -> None:
    case = Case()
    case.keys.answering.clear()
    with pytest.raises(Unavailable):
        await case.tenant()
    case.keys.answering.set()
    assert await case.tenant() == "acme"


async def test_while_keys_cannot_be_looked_up_they_are_tried_again_once_a_second_whatever_comes() -> None:
    case = await Case().known()
    case.keys.away, case.now = True, 3.0
    for tenth in range(30, 60):
        case.now = tenth / 10
        assert await case.tenant() == "acme"
        await settled()
    assert case.keys.asked == 1 + 3
    case.keys.away, case.now = False, 7.0
    case.keys.known.clear()
    assert await case.tenant() == "acme", "the one that tries does not wait"
    await settled()
    with pytest.raises(Unauthorized):
        await case.tenant()


async def test_a_flood_of_wrong_keys_drives_no_valid_one_out() -> None:
    case = await Case().known()
    for number in range(10_001):
        with pytest.raises(Unauthorized):
            await case.tenant(f"wrong-{number}")
    case.keys.away, case.now = True, 3.0
    assert await case.tenant() == "acme"
