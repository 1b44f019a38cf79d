"""Payloads of workflows and activities: plain JSON of our structs, readable in Temporal's own pages."""

import dataclasses
from typing import Any

import msgspec
from temporalio.api.common.v1 import Payload
from temporalio.converter import (
    CompositePayloadConverter,
    DataConverter,
    DefaultPayloadConverter,
    EncodingPayloadConverter,
    JSONPlainPayloadConverter,
)


class StructConverter(EncodingPayloadConverter):
    """JSON by msgspec, under the name that Temporal gives all plain JSON."""

    @property
    def encoding(self) -> str:
        return "json/plain"

    def to_payload(self, value: Any) -> Payload | None:
        return Payload(metadata={"encoding": self.encoding.encode()}, data=msgspec.json.encode(value))

    def from_payload(self, payload: Payload, type_hint: type | None = None) -> Any:
        return msgspec.json.decode(payload.data, type=Any if type_hint is None else type_hint)


class StructPayloadConverter(CompositePayloadConverter):
    def __init__(self) -> None:
        given = DefaultPayloadConverter.default_encoding_payload_converters
        super().__init__(*(StructConverter() if isinstance(one, JSONPlainPayloadConverter) else one for one in given))


DATA_CONVERTER = dataclasses.replace(DataConverter.default, payload_converter_class=StructPayloadConverter)
