"""Exact decimal arithmetic and the one function that rounds money."""

from decimal import ROUND_HALF_UP, Context, Decimal, DivisionByZero, Inexact, InvalidOperation, Overflow
from fractions import Fraction

from domain.errors import Invalid

# Wide enough for a quantity (26 + 12 digits) times a price of the same width, summed over any number of tiers.
# An inexact result raises: precision is lost in `round_half_away` or nowhere.
EXACT = Context(
    prec=160, rounding=ROUND_HALF_UP, traps=[InvalidOperation, DivisionByZero, Overflow, Inexact], Emin=-9999, Emax=9999
)
ZERO = Decimal(0)
HUNDREDTH = Decimal("0.01")

# ISO 4217 codes in use, by their minor unit.
_MINOR_UNITS: dict[int, str] = {
    0: "BIF CLP DJF GNF ISK JPY KMF KRW PYG RWF UGX UYI VND VUV XAF XOF XPF",
    2: (
        "AED AFN ALL AMD AOA ARS AUD AWG AZN BAM BBD BDT BGN BMD BND BOB BOV BRL BSD BTN BWP BYN BZD CAD CDF CHE CHF"
        " CHW CNY COP COU CRC CUP CVE CZK DKK DOP DZD EGP ERN ETB EUR FJD FKP GBP GEL GHS GIP GMD GTQ GYD HKD HNL HTG"
        " HUF IDR ILS INR IRR JMD KES KGS KHR KPW KYD KZT LAK LBP LKR LRD LSL MAD MDL MGA MKD MMK MNT MOP MRU MUR MVR"
        " MWK MXN MXV MYR MZN NAD NGN NIO NOK NPR NZD PAB PEN PGK PHP PKR PLN QAR RON RSD RUB SAR SBD SCR SDG SEK SGD"
        " SHP SLE SOS SRD SSP STN SVC SYP SZL THB TJS TMT TOP TRY TTD TWD TZS UAH USD USN UYU UZS VED VES WST XCD XCG"
        " YER ZAR ZMW ZWG"
    ),
    3: "BHD IQD JOD KWD LYD OMR TND",
    4: "CLF UYW",
}
_DIGITS = {code: digits for digits, codes in _MINOR_UNITS.items() for code in codes.split()}


def minor_units(currency: str) -> int:
    """Digits after the point of the currency (ISO 4217, upper case). Raises Invalid `unknown_currency`."""
    digits = _DIGITS.get(currency)
    if digits is None:
        raise Invalid("unknown_currency", f"{currency!r} is not an ISO 4217 currency code in upper case")
    return digits


def round_half_away(value: Decimal | Fraction, digits: int) -> Decimal:
    """The one rounding: half away from zero to `digits` after the point; exact whatever the value; no negative zero."""
    numerator, denominator = value.as_integer_ratio()
    whole = (2 * abs(numerator) * 10**digits + denominator) // (2 * denominator)
    return Decimal(whole if numerator >= 0 else -whole).scaleb(-digits, EXACT)


def round_money(amount: Decimal | Fraction, currency: str) -> Decimal:
    """`amount` rounded half away from zero to the currency's minor unit. Raises Invalid `unknown_currency`."""
    return round_half_away(amount, minor_units(currency))


def total(amounts: list[Decimal] | tuple[Decimal, ...]) -> Decimal:
    """The exact sum; 0 of nothing."""
    result = ZERO
    for amount in amounts:
        result = EXACT.add(result, amount)
    return result
