"""What is known of a block's candidates, when part of it is in the duplicate filter and the rest in the store.

The answer is the same as that of a filter that has everything: within a window there is one accepted copy of an event
at most, so what the filter knows at an earlier position needs no second opinion, and everything else is asked for.
"""

from collections.abc import Iterable, Sequence

from domain.candidates import Candidate, pack_position
from domain.records import MS_PER_DAY


def unsettled(candidates: Sequence[Candidate], known: Sequence[bytes | None]) -> list[int]:
    """The places of candidates of which no earlier copy is known: an absent part of the filter may hold one."""
    return [
        place
        for place, (candidate, first) in enumerate(zip(candidates, known, strict=True))
        if first is None or first >= candidate.position
    ]


def settled(
    candidates: Sequence[Candidate],
    known: Sequence[bytes | None],
    stored: Iterable[tuple[bytes, int, int, int]],
    window_days: int,
) -> list[bytes | None]:
    """`known` with what the store has: rows (identity, offset, index, logged at in ms) of the absent part.

    As in the filter, a row counts for a candidate logged on its day or up to `window_days` days later (protocol 21), and
    the smallest position does (protocol 13).
    """
    rows: dict[bytes, list[tuple[bytes, int]]] = {}
    for identity, offset, index, logged_at_ms in stored:
        rows.setdefault(identity, []).append((pack_position(offset, index), logged_at_ms // MS_PER_DAY))
    answers = list(known)
    for place, candidate in enumerate(candidates):
        for position, day in rows.get(candidate.identity, ()):
            held = answers[place]
            if candidate.log_day - window_days <= day <= candidate.log_day and (held is None or position < held):
                answers[place] = position
    return answers
