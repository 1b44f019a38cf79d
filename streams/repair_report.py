"""What a repair says: findings, each with what became of it."""

from typing import Literal

import msgspec

# events: rows that a done block should have. outcomes: its duplicates or rejected events. windows: what they count.
# block: an intent that was not done. ledger: what PostgreSQL has forgotten. catalog: versions it has forgotten.
Kind = Literal["events", "outcomes", "windows", "block", "ledger", "catalog"]
State = Literal["found", "mended", "not_mendable"]


class NotMendable(Exception):  # noqa: N818 - a finding, not a failure
    """Why a range cannot be mended from what is there."""


class Finding(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Offsets are of `partition` of usage.raw, both ends included; without them the finding is about all of it."""

    kind: Kind
    state: State
    message: str
    partition: int | None = None
    first_offset: int | None = None
    last_offset: int | None = None


class RepairReport(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that was looked at and found."""

    partitions: list[int]
    findings: list[Finding]

    @property
    def is_whole(self) -> bool:
        """Whether nothing is wrong any more."""
        return all(finding.state == "mended" for finding in self.findings)
