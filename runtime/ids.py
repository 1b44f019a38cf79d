"""Prefixed identifiers: sortable by creation (48 bits of milliseconds), 80 random bits, Crockford base 32."""

import secrets

from runtime.clock import Clock

_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"
_LENGTH = 26


class Ids:
    """Source of new identifiers: an object, so that what makes ids takes it as an argument."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock

    def new(self, prefix: str) -> str:
        """`prefix` plus 26 characters, e.g. `cus_01k...`; unique without coordination."""
        number = int(self._clock.now().timestamp() * 1000) << 80 | secrets.randbits(80)
        digits = [_ALPHABET[(number >> (5 * place)) & 31] for place in reversed(range(_LENGTH))]
        return f"{prefix}_{''.join(digits)}"
