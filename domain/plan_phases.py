"""Phases of a plan over time: a trial first if there is one, then those that are paid, one after another."""

from collections.abc import Sequence
from datetime import datetime

from domain.periods import UNITS, boundary
from schemas.periods import Cadence
from schemas.plan_phases import Phase

STANDARD = "standard"  # the key of a plan's phase that nobody named


def trial_phase(phases: Sequence[Phase]) -> Phase | None:
    return phases[0] if phases[0].trial else None


def paid_phases(phases: Sequence[Phase]) -> tuple[Phase, ...]:
    """The phases without the trial; a valid plan has at least one."""
    return tuple(phase for phase in phases if not phase.trial)


def standing_phase(phases: Sequence[Phase]) -> Phase:
    """The last phase, which does not end by itself; an empty one where a draft has none yet."""
    return phases[-1] if phases else Phase(key=STANDARD)


def later(start: datetime, durations: Sequence[Cadence], zone: str) -> datetime:
    """`start` plus all durations: first the months in local time, then the days, then what is elapsed time.

    They are summed before they are added, so that months come back to the 31st (every boundary counts from the origin).
    """
    at = start
    for unit, lengths in UNITS.items():
        count = sum(lengths.get(each.unit, 0) * each.count for each in durations)
        if count:
            at = boundary(at, Cadence(unit=unit, count=count), zone, 1)
    return at


def phase_starts(phases: Sequence[Phase], origin: datetime, zone: str) -> list[datetime]:
    """Where each phase begins, the first at `origin`. UTC, ascending."""
    durations = [phase.duration for phase in phases[:-1] if phase.duration is not None]
    return [later(origin, durations[:count], zone) for count in range(len(durations) + 1)]


def trial_end(phases: Sequence[Phase], start: datetime, zone: str) -> datetime:
    """The end of the plan's trial, `start` itself where it has none."""
    trial = trial_phase(phases)
    return start if trial is None or trial.duration is None else later(start, [trial.duration], zone)
