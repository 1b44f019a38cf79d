"""Plan families: plans that a customer chooses between, from the least to the most."""

from collections.abc import Iterable
from typing import Literal

from schemas.plan_phases import PlanVersion

Move = Literal["upgrade", "downgrade", "crossgrade", "new_version"]


def move_between(held: PlanVersion, wanted: PlanVersion) -> Move:
    """What a change from one to the other is. Between families, and at the same level, it is a crossgrade."""
    if held.plan_id == wanted.plan_id:
        return "new_version"
    if held.family is None or held.family != wanted.family or held.level == wanted.level:
        return "crossgrade"
    return "upgrade" if wanted.level > held.level else "downgrade"


def offers(held: PlanVersion, versions: Iterable[PlanVersion]) -> list[PlanVersion]:
    """The plans of the family that can be changed to, the newest published version of each, by level and then by key."""
    newest: dict[str, PlanVersion] = {}
    for version in versions:
        fits = version.status == "published" and version.currency == held.currency and version.plan_id != held.plan_id
        if not fits or held.family is None or version.family != held.family:
            continue
        kept = newest.get(version.plan_id)
        if kept is None or version.version > kept.version:
            newest[version.plan_id] = version
    return sorted(newest.values(), key=_rank)


def _rank(version: PlanVersion) -> tuple[int, str]:
    return version.level, version.plan_key
