"""Planning a migration of many subscriptions to another plan version, and its way back. Nothing is done here: a job
makes the requests of the plan, at its own pace, and each of them is safe to repeat.
"""

from collections.abc import Sequence
from datetime import datetime

from domain.errors import Conflict, Invalid, MeterstreamError
from domain.subscriptions.fold import fold
from domain.subscriptions.history import record_change
from domain.subscriptions.preview import preview
from domain.subscriptions.terms import plan_at
from schemas.plan_migration import Candidate, MigrationPlan, PlanMigration, PlannedMove, RefusedMove
from schemas.subscription_changes import Change, ChangePlan, ChangeRecord, ChangeRequest, History, Withdraw
from schemas.subscription_life import Sold


def plan_migration(
    migration: PlanMigration, candidates: Sequence[Candidate], sold: Sold, now: datetime
) -> MigrationPlan:
    """Who is moved, when and at what cost, and who is refused and why. One that cannot be moved holds up no other.

    Phases go on where they were. Raises Invalid `migration_to_itself`.
    """
    if migration.from_version_id == migration.to_version_id:
        raise Invalid("migration_to_itself", "a migration leads from one version to another")
    moves: list[PlannedMove] = []
    refused: list[RefusedMove] = []
    for candidate in candidates:
        try:
            moves.append(_move(migration, candidate, sold, now))
        except MeterstreamError as error:
            refused.append(
                RefusedMove(subscription_id=candidate.subscription_id, code=error.code, message=error.message)
            )
    return MigrationPlan(moves=tuple(moves), refused=tuple(refused))


def _move(migration: PlanMigration, candidate: Candidate, sold: Sold, now: datetime) -> PlannedMove:
    history = candidate.history
    request = ChangeRequest(
        change=ChangePlan(plan_version_id=migration.to_version_id, keep_phase_clock=True),
        when=migration.when,
        made_by=migration.made_by,
        key=move_key(migration.id),
        reason=migration.reason,
        expected_revision=history[-1].revision if history else None,
    )
    recorded = record_change(history, request, sold, now, candidate.billed_to)
    if recorded.repeated:
        raise Conflict("migrated_already", "this migration has moved the subscription before")
    # What matters is what it holds when the move would take effect.
    held = plan_at(fold(history), recorded.record.effective_at).plan_version_id
    if held != migration.from_version_id:
        raise Conflict("plan_version_differs", f"it holds the plan version {held!r} when it would be moved")
    shown = preview(history, request, sold, now, candidate.booked, candidate.billed_to)
    return PlannedMove(subscription_id=candidate.subscription_id, request=request, preview=shown)


def move_key(migration_id: str) -> str:
    """The idempotency key of a migration's change, once in the history of each subscription."""
    return f"migration:{migration_id}"


def rollback_request(migration: PlanMigration, history: History, now: datetime) -> ChangeRequest:
    """What takes a move back: withdrawn if it is still to come, else changed back at once.

    Raises Conflict `not_migrated` where the history holds no such move, `plan_version_differs` where the plan was
    changed again since. Safe to repeat by its key.
    """
    move = _moved(migration, history)
    if move is None:
        raise Conflict("not_migrated", "this migration has not moved the subscription")
    key = f"{move_key(migration.id)}:back"
    done = next((record.change for record in history if record.key == key), None)
    return ChangeRequest(
        change=done or _back(migration, history, move, now),
        made_by=migration.made_by,
        key=key,
        reason=migration.reason,
    )


def _back(migration: PlanMigration, history: History, move: ChangeRecord, now: datetime) -> Change:
    if move.effective_at > now:
        return Withdraw(revision=move.revision)
    held = plan_at(fold(history), now).plan_version_id
    if held != migration.to_version_id:
        raise Conflict("plan_version_differs", f"the plan was changed again since, to version {held!r}")
    return ChangePlan(plan_version_id=migration.from_version_id, keep_phase_clock=True)


def _moved(migration: PlanMigration, history: History) -> ChangeRecord | None:
    return next((record for record in history if record.key == move_key(migration.id)), None)
