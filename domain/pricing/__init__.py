"""Prices: what is a valid one, and what a quantity costs."""

from domain.pricing.rate import rate
from domain.pricing.validate import validate_price

__all__ = ["rate", "validate_price"]
