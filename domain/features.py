"""What makes a feature valid beyond its types."""

from domain.errors import FieldError, Invalid
from domain.keys import validate_key
from schemas.features import FeatureSpec


def validate_feature(spec: FeatureSpec, id_prefix: str) -> None:
    """Raises Invalid `key_malformed`, `meter_missing` (metered without one), `meter_unused` (another kind with one)."""
    validate_key(spec.key, id_prefix)
    if spec.kind == "metered" and spec.meter is None:
        raise _meter_error("meter_missing", "a metered feature names the meter that counts it")
    if spec.kind != "metered" and spec.meter is not None:
        raise _meter_error("meter_unused", f"a {spec.kind} feature is not counted by a meter")


def _meter_error(code: str, message: str) -> Invalid:
    return Invalid(code, message, [FieldError(pointer="/meter", code=code, message=message)])
