"""A batch is sound as a whole, or each of its events must be asked: the same verdict either way."""

import pytest

from domain.sound_events import SURELY_SMALL_BYTES, sound_events
from schemas.catalog import TenantLimits

NOW_MS = 1_795_000_000_000  # 2026-11-18T11:06:40Z
LIMITS = TenantLimits(max_event_age_s=60, max_event_ahead_s=30)
SOUND = b'{"id":"1","type":"t","customer":"c","source":"s","time":"2026-11-18T11:06:00Z","properties":{"n":1e-6}}'


def event(more: str) -> bytes:
    return f'{{"id":"2","type":"t","customer":"d",{more}}}'.encode()


def test_sound_events_are_given_as_columns_in_order() -> None:
    found = sound_events([SOUND, event('"properties":{"deep":[[{}]]}'), SOUND], NOW_MS, LIMITS)
    assert found is not None
    assert (list(found.ids), list(found.sources)) == (["1", "2", "1"], ["s", "", "s"])
    assert found.customers == {"c", "d"}


@pytest.mark.parametrize(
    "more",
    [
        '"time":"2026-11-18T11:05:40Z"',
        '"time":"2026-11-18T11:07:10.000999Z"',
        '"time":"2026-11-18T13:05:40+02:00"',
        '"source":""',
        '"properties":{}',
    ],
)
def test_what_is_just_taken_is_sound(more: str) -> None:
    assert sound_events([SOUND, event(more)], NOW_MS, LIMITS) is not None


@pytest.mark.parametrize(
    "more",
    [
        '"time":"2026-11-18T11:05:39.999999Z"',
        '"time":"2026-11-18T11:07:10.001Z"',
        '"time":"2026-11-18T11:06:00"',
        '"time":5',
        '"source":"\\u0007"',
        f'"source":"{"s" * 256}"',
        '"tenant":""',
        '"unknown":1',
        '"properties":[]',
        f'"properties":{{"deep":{"[" * 32}{"]" * 32}}}',
        f'"properties":{{"long":"{"x" * SURELY_SMALL_BYTES}"}}',
    ],
)
def test_what_may_be_refused_is_not_called_sound(more: str) -> None:
    assert sound_events([SOUND, event(more)], NOW_MS, LIMITS) is None


def test_empty_names_and_limits_beyond_all_times_are_not_called_sound() -> None:
    assert sound_events([SOUND, b'{"id":"","type":"t","customer":"c"}'], NOW_MS, LIMITS) is None
    assert sound_events([SOUND], NOW_MS, TenantLimits(max_event_age_s=1 << 40, max_event_ahead_s=1 << 40)) is None
