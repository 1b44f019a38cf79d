"""What the duplicate filter knows in memory: it may say too much, and never too little."""

from random import Random

from domain.identity import event_identity, partition_of
from stores.rocks.sieve import IDENTITY_BYTES, Sieve, places_of
from stores.rocks.sieves import SieveRoom, Sieves

# Six layers, and the last of them nearly full.
MANY = 1_300_000


def test_what_was_added_is_always_possible_and_what_was_not_hardly_ever() -> None:
    random, sieve = Random(1), Sieve()
    added = random.randbytes(MANY * IDENTITY_BYTES)
    for at in range(0, len(added), len(added) // 13):
        sieve.add(added[at : at + len(added) // 13])
    assert sieve.possible(places_of(added)).all()
    assert sieve.possible(places_of(random.randbytes(100_000 * IDENTITY_BYTES))).sum() < 3000


def test_identities_of_one_partition_are_told_apart_too() -> None:
    names = (event_identity("acme", "live", "", str(number)) for number in range(200_000))
    own = [one for one in names if partition_of(one, 64) == 3]
    sieve = Sieve()
    sieve.add(b"".join(own[::2]))
    assert sieve.possible(places_of(b"".join(own[::2]))).all()
    assert sieve.possible(places_of(b"".join(own[1::2]))).sum() < len(own) / 50


def test_an_empty_sieve_lets_nothing_through() -> None:
    sieve = Sieve()
    sieve.add(b"")
    assert not sieve.possible(places_of(event_identity("acme", "live", "", "e"))).any()
    assert len(sieve.possible(places_of(b""))) == 0


def test_sieves_stay_within_their_room_and_the_oldest_days_go_without() -> None:
    random, room = Random(2), SieveRoom(200_000)
    first, second = Sieves(room), Sieves(room)
    days = {day: random.randbytes(3_000 * IDENTITY_BYTES) for day in range(12)}
    for day, identities in days.items():
        first.begin(day)
        first.remember(day, identities)
    known = [day for day in days if first.possible(day, places_of(days[day])) is not None]
    assert known == list(range(12 - len(known), 12))
    assert 0 < len(known) < 12
    for day in known:
        assert first.possible(day, places_of(days[day])) == list(range(3_000))
    second.begin(1)
    second.remember(1, random.randbytes(100_000 * IDENTITY_BYTES))  # more than there is: it goes without, and says so
    assert second.possible(1, places_of(days[1])) is None
    first.clear()
    assert room.take(200_000)


def test_an_older_day_that_is_loaded_later_takes_no_room_from_a_newer_one() -> None:
    """After a loss the newest ranges are loaded first."""
    random, sieves = Random(4), Sieves(SieveRoom(200_000))
    days = {day: random.randbytes(3_000 * IDENTITY_BYTES) for day in reversed(range(12))}
    for day, identities in days.items():
        sieves.begin(day)
        sieves.remember(day, identities)
    known = sorted(day for day in days if sieves.possible(day, places_of(days[day])) is not None)
    assert known == list(range(12 - len(known), 12))
    assert 0 < len(known) < 12


def test_a_day_that_is_being_learnt_is_asked_in_full_until_all_of_it_is_known() -> None:
    random, sieves = Random(3), Sieves(SieveRoom(1 << 20))
    sieves.found([7, 8])
    assert sieves.to_learn() == (8, b"")
    old, new = random.randbytes(100 * IDENTITY_BYTES), random.randbytes(100 * IDENTITY_BYTES)
    sieves.learnt(8, old, b"above")
    sieves.remember(8, new)  # written meanwhile
    assert (sieves.to_learn(), sieves.possible(8, places_of(old))) == ((8, b"above"), None)
    sieves.learnt(8, b"", None)
    assert sieves.to_learn() == (7, b"")
    assert sieves.possible(8, places_of(old + new)) == list(range(200))
