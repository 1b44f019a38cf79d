"""What becomes of the records of one block, as columns: the shape in which they go to the store."""

from decimal import Decimal

import msgspec


class StoredColumns(msgspec.Struct, kw_only=True, gc=False):
    """Rows of `events`, one list a column, in the order of the log. Matches and issues are flat lists over all
    events; row i has those from `match_ends[i]` to `match_ends[i + 1]` (both start with 0).

    Lists are filled while a block is judged and never changed afterwards.
    """

    tenant: list[str] = []
    environment: list[str] = []
    source: list[str] = []
    id: list[str] = []
    type: list[str] = []
    customer: list[str] = []
    customer_id: list[str] = []
    time_ms: list[int] = []
    received_at_ms: list[int] = []
    logged_at_ms: list[int] = []
    properties: list[bytes] = []
    identity: list[bytes] = []
    offset: list[int] = []
    index: list[int] = []
    match_ends: list[int] = []
    match_meter: list[str] = []
    match_generation: list[int] = []
    match_value: list[int | Decimal | None] = []
    match_unique_key: list[str] = []
    match_dimensions: list[tuple[str, ...]] = []
    issue_ends: list[int] = []
    issue_meter: list[str] = []
    issue_generation: list[int] = []
    issue_code: list[str] = []

    def __len__(self) -> int:
        return len(self.identity)


class DuplicateEvent(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A row of `event_duplicates`: a copy as it was sent, and where its first one stands in the same partition.

    The body is kept so that a look-up can tell whether it is that of the first; `time_ms` is None where none was sent.
    """

    tenant: str
    environment: str
    source: str
    id: str
    identity: bytes
    received_at_ms: int
    logged_at_ms: int
    offset: int
    index: int
    first_offset: int
    first_index: int
    type: str
    customer: str
    time_ms: int | None
    properties: bytes


class RefusedEvent(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A row of `events_rejected` and a record of `usage.rejected`. `source` and `id` are "" where they cannot be read."""

    tenant: str
    environment: str
    source: str
    id: str
    code: str
    message: str
    received_at_ms: int
    logged_at_ms: int
    offset: int
    index: int
    original: bytes


class ForwardedRecord(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """Events of one record that belong to another partition (protocol 5): a record to send there."""

    partition: int
    value: bytes
    headers: list[tuple[str, bytes]]
    events: int
