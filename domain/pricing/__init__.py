"""Prices: what is a valid one, and what usage costs."""

from domain.pricing.commitments import WHOLE
from domain.pricing.rate import rate, rate_lines, rerate
from domain.pricing.validate import validate_price

__all__ = ["WHOLE", "rate", "rate_lines", "rerate", "validate_price"]
