"""What the duplicate filter knows in memory: it may say too much, and never too little."""

from random import Random

from domain.identity import event_identity, partition_of
from stores.rocks.sieve import IDENTITY_BYTES, Sieve

# Three layers, and the last of them nearly full.
MANY = 1_300_000


def test_what_was_added_is_always_possible_and_what_was_not_hardly_ever() -> None:
    random, sieve = Random(1), Sieve()
    added = random.randbytes(MANY * IDENTITY_BYTES)
    for at in range(0, len(added), len(added) // 13):
        sieve.add(added[at : at + len(added) // 13])
    assert sieve.possible(added).all()
    assert sieve.possible(random.randbytes(100_000 * IDENTITY_BYTES)).sum() < 3000


def test_identities_of_one_partition_are_told_apart_too() -> None:
    names = (event_identity("acme", "live", "", str(number)) for number in range(200_000))
    own = [one for one in names if partition_of(one, 64) == 3]
    sieve = Sieve()
    sieve.add(b"".join(own[::2]))
    assert sieve.possible(b"".join(own[::2])).all()
    assert sieve.possible(b"".join(own[1::2])).sum() < len(own) / 50


def test_an_empty_sieve_lets_nothing_through() -> None:
    sieve = Sieve()
    sieve.add(b"")
    assert not sieve.possible(event_identity("acme", "live", "", "e")).any()
    assert len(sieve.possible(b"")) == 0
