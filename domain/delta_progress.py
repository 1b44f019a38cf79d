"""How far a delta partition has got: which block follows, what was lost, and whose tenure it is."""

from collections.abc import Iterable

from msgspec import Struct
from msgspec.structs import replace

from schemas.balances import DeltasProgress
from schemas.deltas import BlockDeltas


class ReadPosition(Struct, frozen=True, kw_only=True):
    """Where a partition of a topic is read from: the group's committed offset, if it has one, and the log's beginning."""

    committed: int | None
    begins_at: int

    @property
    def next_offset(self) -> int:
        return max(self.committed or 0, self.begins_at)


class DeltaGapError(Exception):
    """A block's deltas are missing that the topic has: a crash before the acknowledgement, so that they are read again."""


def follows(progress: DeltasProgress, deltas: BlockDeltas) -> bool:
    """Whether the block is the next of its source partition; False for a repeat (protocol 22).

    Raises DeltaGapError for one that comes too early, or that is of another topic generation (protocol 5).
    """
    if deltas.topic_id != progress.topic_id:
        raise DeltaGapError(f"deltas of topic {deltas.topic_id}, but the balances are of {progress.topic_id}")
    last = progress.applied.get(deltas.partition, -1)
    if deltas.last_offset <= last:
        return False
    if deltas.first_offset != last + 1:
        raise DeltaGapError(
            f"partition {deltas.partition}: block {deltas.first_offset}-{deltas.last_offset} does not follow {last}"
        )
    return True


def advanced(progress: DeltasProgress, deltas: BlockDeltas) -> DeltasProgress:
    return replace(progress, applied={**progress.applied, deltas.partition: deltas.last_offset})


def first_gap(progress: DeltasProgress, records: Iterable[BlockDeltas]) -> str:
    """Says which block of the records does not follow; "" when all do. Raises DeltaGapError for another generation."""
    for deltas in records:
        if deltas.is_tick:
            continue
        last = progress.applied.get(deltas.partition, -1)
        if deltas.topic_id == progress.topic_id and deltas.first_offset > last + 1:
            return (
                f"of partition {deltas.partition} the blocks from {last + 1} to {deltas.first_offset - 1} are missing"
            )
        if follows(progress, deltas):
            progress = advanced(progress, deltas)
    return ""


def lost(progress: DeltasProgress | None, *, deltas: ReadPosition, contracts: ReadPosition) -> str:
    """Why the recovered state is not all there was of a partition; "" when it is, given where its topics are read from."""
    if progress is None:
        known = deltas.committed or deltas.begins_at or contracts.committed
        return "nothing was recovered, although records were acknowledged" if known else ""
    for topic, recorded, position in (
        ("deltas", progress.next_deltas, deltas),
        ("contracts", progress.next_contracts, contracts),
    ):
        if recorded is not None and (position.committed or 0) > recorded:
            return f"{topic} are acknowledged up to {position.committed}, the recovered state has them up to {recorded}"
    if progress.next_deltas is not None and deltas.begins_at > progress.next_deltas:
        return f"deltas from {progress.next_deltas} to {deltas.begins_at - 1} were removed before they were applied"
    return ""


def tenure_after(progress: DeltasProgress | None, generation: int, told: int) -> int:
    """The tenure that begins in a generation of the consumer group: greater than those of all earlier generations.

    That also holds for owners of which nothing has arrived yet: each counts on from the same record. A group that was
    forgotten begins its generations anew. `told` is the greatest that readers know where the record is lost.
    """
    if progress is None:
        return told + generation
    tenure, _ = progress.version
    if generation > progress.generation:
        return tenure + generation - progress.generation
    return tenure + max(generation, 1)
