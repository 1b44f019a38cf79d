"""What a request to change a subscription asks for, as changes that a history can take."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime

from msgspec import Struct

from domain.errors import invalid_field
from domain.instants import parse_instant
from schemas.subscription_changes import (
    Cancel,
    Change,
    ChangePlan,
    ChangeRequest,
    ChangeTime,
    Pause,
    Resume,
    SetAddon,
    SetQuantity,
    SetTrialEnd,
    UndoCancel,
    Withdraw,
)
from schemas.subscription_requests import CancelSpec, ChangeSpec, PauseSpec, ResumeSpec


class Asked(Struct, frozen=True, kw_only=True):
    """Changes that are made together, in order, all at one time. `made_by` and `key` of each request come with it."""

    changes: tuple[Change, ...]
    when: ChangeTime | datetime = "now"
    reason: str = ""

    def requests(self, made_by: str, key: str) -> Sequence[ChangeRequest]:
        """Of several changes each has a key of its own."""
        keys = [key] if len(self.changes) == 1 else [f"{key}/{number}" for number, _ in enumerate(self.changes, 1)]
        return [
            ChangeRequest(change=change, when=self.when, made_by=made_by, key=each, reason=self.reason)
            for change, each in zip(self.changes, keys, strict=True)
        ]


def time_of(when: str) -> ChangeTime | datetime:
    """Raises Invalid `invalid_instant`."""
    if when == "now":
        return "now"
    if when == "period_end":
        return "period_end"
    return parse_instant("when", when)


def _utc(at: datetime) -> datetime:
    """As histories keep it. What cannot be told in UTC is refused where a change is checked."""
    try:
        return at if at.tzinfo is None else at.astimezone(UTC)
    except OverflowError:
        return at


def cancel_asked(spec: CancelSpec) -> Asked:
    """Raises Invalid `invalid_instant`."""
    if spec.undo:
        return Asked(changes=(UndoCancel(),), reason=spec.reason)
    return Asked(changes=(Cancel(),), when=time_of(spec.when), reason=spec.reason)


def pause_asked(spec: PauseSpec) -> Asked:
    """Raises Invalid `invalid_instant`."""
    resumes_at = None if spec.resumes_at is None else _utc(spec.resumes_at)
    return Asked(changes=(Pause(resumes_at=resumes_at),), when=time_of(spec.when), reason=spec.reason)


def resume_asked(spec: ResumeSpec) -> Asked:
    """Raises Invalid `invalid_instant`."""
    return Asked(changes=(Resume(),), when=time_of(spec.when), reason=spec.reason)


def change_asked(spec: ChangeSpec, plan_version_id: str | None, addons: Mapping[str, int] | None = None) -> Asked:
    """`plan_version_id` is what the plan that was named stands for, `addons` are units by version ids. Raises Invalid `change_missing`, `change_ambiguous`,
    `invalid_instant`.
    """
    together: list[Change] = []
    if plan_version_id is not None:
        together.append(ChangePlan(plan_version_id=plan_version_id))
    together += [SetQuantity(price_key=key, quantity=quantity) for key, quantity in spec.quantities.items()]
    together += [SetAddon(addon_version_id=name, quantity=units) for name, units in (addons or {}).items()]
    alone = [spec.trial_end_at is not None, spec.withdraw is not None, bool(together)]
    if not any(alone):
        raise invalid_field(
            "", "change_missing", "send what is to change: a plan, quantities, add-ons, the trial's end"
        )
    if sum(alone) > 1:
        message = "the end of the trial, and a change that is withdrawn, are each sent alone"
        raise invalid_field("", "change_ambiguous", message)
    if spec.trial_end_at is not None:
        return Asked(changes=(SetTrialEnd(),), when=_utc(spec.trial_end_at), reason=spec.reason)
    if spec.withdraw is not None:
        return Asked(changes=(Withdraw(revision=spec.withdraw),), reason=spec.reason)
    return Asked(changes=tuple(together), when=time_of(spec.when), reason=spec.reason)
