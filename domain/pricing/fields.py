"""Checks of numbers in a price; what is wrong is gathered."""

from decimal import Decimal

from domain.errors import Invalid
from domain.quantities import parse_quantity
from domain.wrong_fields import WrongFields

HUNDRED = Decimal(100)


class Fields(WrongFields):
    """Each check answers whether the field may be used in further checks."""

    def amount(self, pointer: str, value: Decimal | None) -> bool:
        """A number of 0 or more; None is nothing to check."""
        if value is None:
            return False
        try:
            parse_quantity(value)
        except Invalid as invalid:
            self.take(pointer, invalid)
            return False
        if value < 0:
            self.wrong(pointer, "negative_amount", "a price is not negative")
            return False
        return True

    def positive(self, pointer: str, value: Decimal, code: str) -> bool:
        if not self.amount(pointer, value):
            return False
        if not value:
            self.wrong(pointer, code, "must be greater than 0")
            return False
        return True

    def percent(self, pointer: str, value: Decimal) -> None:
        if self.amount(pointer, value) and value > HUNDRED:
            self.wrong(pointer, "rate_out_of_range", "a percentage is 0 to 100")

    def ordered(self, pointer: str, least: Decimal | None, greatest: Decimal | None) -> None:
        if least is not None and greatest is not None and least > greatest:
            self.wrong(pointer, "limits_crossed", "the minimum is greater than the maximum")

    def too_many(self, pointer: str, code: str, count: int, most: int) -> bool:
        if count > most:
            self.wrong(pointer, code, f"at most {most} are taken")
            return True
        return False
