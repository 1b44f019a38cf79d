"""Exact decimal arithmetic and the one function that rounds money."""

from decimal import ROUND_HALF_UP, Context, Decimal, DivisionByZero, Inexact, InvalidOperation, Overflow

from domain.errors import Invalid

# Wide enough for a quantity (26 + 12 digits) times a price of the same width, summed over any number of tiers.
# An inexact result raises: precision is lost in `round_money` and `divide` or nowhere.
EXACT = Context(
    prec=160, rounding=ROUND_HALF_UP, traps=[InvalidOperation, DivisionByZero, Overflow, Inexact], Emin=-9999, Emax=9999
)
# ROUND_HALF_UP of the decimal module is half away from zero.
_ROUNDING = Context(prec=160, rounding=ROUND_HALF_UP, traps=[InvalidOperation, DivisionByZero, Overflow])

ZERO = Decimal(0)

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
_UNIT = {code: Decimal(1).scaleb(-digits) for code, digits in _DIGITS.items()}


def minor_units(currency: str) -> int:
    """Digits after the point of the currency (ISO 4217, upper case). Raises Invalid `unknown_currency`."""
    digits = _DIGITS.get(currency)
    if digits is None:
        raise Invalid("unknown_currency", f"{currency!r} is not an ISO 4217 currency code in upper case")
    return digits


def minor_unit(currency: str) -> Decimal:
    """The smallest amount of the currency: 0.01 USD, 1 JPY. Raises Invalid `unknown_currency`."""
    minor_units(currency)
    return _UNIT[currency]


def round_money(amount: Decimal, currency: str) -> Decimal:
    """`amount` rounded half away from zero to the currency's minor unit; never a negative zero."""
    return _ROUNDING.add(_ROUNDING.quantize(amount, minor_unit(currency)), ZERO)


def divide(dividend: Decimal, divisor: Decimal, digits: int) -> Decimal:
    """The quotient rounded half away from zero to `digits` after the point. Never of money: that is `round_money`."""
    whole = EXACT.multiply(dividend.copy_abs().scaleb(digits, _ROUNDING), Decimal(2))
    # Twice the dividend plus the divisor over twice the divisor, floored: the half is decided exactly.
    size = divisor.copy_abs()
    floored = EXACT.divide_int(EXACT.add(whole, size), EXACT.multiply(size, Decimal(2)))
    result = floored.scaleb(-digits, _ROUNDING)
    return result.copy_negate() if result and dividend.is_signed() != divisor.is_signed() else result


def total(amounts: list[Decimal] | tuple[Decimal, ...]) -> Decimal:
    """The exact sum; 0 of nothing."""
    result = ZERO
    for amount in amounts:
        result = EXACT.add(result, amount)
    return result
