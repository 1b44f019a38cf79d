"""Moving subscriptions from one plan version to another: what is asked, who is moved, who is not and why."""

from datetime import datetime

from msgspec import Struct

from schemas.subscription_changes import ChangeRequest, ChangeTime, History
from schemas.subscription_life import BookedFee, ChangePreview


class PlanMigration(Struct, frozen=True, kw_only=True):
    """`id` makes each move safe to repeat; `when` is taken for each subscription alone."""

    id: str
    from_version_id: str
    to_version_id: str
    when: ChangeTime | datetime = "period_end"
    made_by: str
    reason: str = ""


class Candidate(Struct, frozen=True, kw_only=True):
    """A subscription as it stands: its history, what was booked for periods still running, how far it was billed."""

    subscription_id: str
    history: History
    booked: tuple[BookedFee, ...] = ()
    billed_to: datetime | None = None


class PlannedMove(Struct, frozen=True, kw_only=True):
    """A request that moves one subscription; it asks for the revision that the preview was made of."""

    subscription_id: str
    request: ChangeRequest
    preview: ChangePreview


class RefusedMove(Struct, frozen=True, kw_only=True):
    """Why a subscription is not moved; `code` is stable."""

    subscription_id: str
    code: str
    message: str


class MigrationPlan(Struct, frozen=True, kw_only=True):
    """Every candidate is in one of the two. `moves` are in the order of the candidates."""

    moves: tuple[PlannedMove, ...]
    refused: tuple[RefusedMove, ...]
