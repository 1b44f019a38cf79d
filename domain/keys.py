"""Keys that clients give to catalog objects."""

import re

from domain.errors import FieldError, Invalid

KEY_MAX_LENGTH = 64
_KEY = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}", re.ASCII)


def validate_key(key: str, id_prefix: str) -> None:
    """Raises Invalid `key_malformed`.

    A key may stand wherever an id does, so it must not look like one: `id_prefix` ("met", "fea", ...) is kept for ids.
    """
    if not _KEY.fullmatch(key):
        message = f"a key is 1 to {KEY_MAX_LENGTH} letters, digits, points, dashes or underscores"
    elif key.startswith(f"{id_prefix}_"):
        message = f"keys that begin with {id_prefix}_ are kept for ids"
    else:
        return
    raise Invalid("key_malformed", message, [FieldError(pointer="/key", code="key_malformed", message=message)])
