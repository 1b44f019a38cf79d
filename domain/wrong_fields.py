"""Wrong fields of one body, gathered: a client is told all of them at once."""

from domain.errors import FieldError, Invalid


class WrongFields:
    """In the order in which they were found; the first one's code is that of the refusal."""

    def __init__(self) -> None:
        self._found: list[FieldError] = []

    def wrong(self, pointer: str, code: str, message: str) -> None:
        self._found.append(FieldError(pointer=pointer, code=code, message=message))

    def take(self, pointer: str, refused: Invalid) -> None:
        """The details of `refused`, whose pointers are whole; of one without details, `pointer` is wrong."""
        self._found += refused.details or [FieldError(pointer=pointer, code=refused.code, message=refused.message)]

    def refuse(self) -> None:
        """Raises Invalid with every wrong field as a detail; nothing where there is none."""
        if self._found:
            raise Invalid(self._found[0].code, self._found[0].message, self._found)
