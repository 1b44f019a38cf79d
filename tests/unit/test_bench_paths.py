"""How the benchmark judges what it saw on the paths of events."""

import msgspec
import pytest

from bench.ledger import DoneBlock
from bench.load import BenchError, EventStream, Load
from bench.registry import SCENARIOS, chosen
from bench.scenarios.end_to_end import LAG_MAX_S, LEAD_S, SLICES, Held
from bench.scenarios.freshness import Lane, Watch, counts_in
from bench.scenarios.pipeline import rate_of

RATE, SECONDS = 10_000.0, 62.0


def block(events: int, done_at: float) -> DoneBlock:
    return DoneBlock(0, 0, 0, events, done_at)


def held(lags: list[tuple[float, int]], accepted: float = RATE * SECONDS) -> Held:
    blocks = [block(5_000, at / 2) for at in range(1, int(SECONDS * 2) + 1)]
    load = Load(seconds=SECONDS, latencies_s=[0.01])
    return Held(rate=RATE, seconds=SECONDS, accepted=int(accepted), lags=lags, blocks=blocks, begun=0.0, load=load)


def lags(slope: float, start: float = 5_000) -> list[tuple[float, int]]:
    """A lag that grows by `slope` events a second, and swings by a block."""
    return [(at / 4, int(start + slope * at / 4 + 2_000 * (at % 2))) for at in range(int(SECONDS * 4))]


def test_the_pipelines_rate_leaves_out_the_first_block_and_the_time_before_it() -> None:
    assert rate_of([block(7, 100.0), block(300, 100.5), block(700, 102.0)]) == 500
    with pytest.raises(BenchError, match="at once"):
        rate_of([block(7, 100.0), block(300, 100.0)])


def test_a_rate_is_held_while_the_lag_swings_but_does_not_grow() -> None:
    assert not held(lags(0)).grows(0.01)
    assert not held(lags(0.005 * RATE)).grows(0.01)
    assert held(lags(0.02 * RATE)).grows(0.01)


def test_a_rate_is_not_held_when_the_lag_is_too_long_or_the_requests_did_not_keep_up() -> None:
    assert held(lags(0, start=RATE * (LAG_MAX_S + 1))).grows(0.01)
    assert held(lags(0), accepted=RATE * SECONDS * 0.9).grows(0.01)


def test_the_lag_while_the_flow_begins_is_not_looked_at() -> None:
    beginning = [(at / 4, int(RATE * 10)) for at in range(int(LEAD_S * 4))]
    assert not held([*beginning, *lags(0)[int(LEAD_S * 4) :]]).grows(0.01)


def test_what_becomes_visible_after_the_last_request_is_no_part_of_a_rate() -> None:
    late = msgspec.structs.replace(held(lags(0)), load=Load(seconds=SECONDS / 2, latencies_s=[0.01]))
    assert late.visible == pytest.approx(RATE)


def test_slices_are_what_became_visible_in_each_of_them() -> None:
    assert held(lags(0)).slices == pytest.approx([RATE] * SLICES, rel=0.02)


def test_events_of_a_stream_are_whole_however_their_bytes_come() -> None:
    seen: list[tuple[str, bytes]] = []
    stream = EventStream(lambda name, data: seen.append((name, data)))
    text = b'id: 0-1\nevent: change\ndata: {"a": "b: c"}\n\nevent: heartbeat\ndata: {}\n\n'
    for place in range(len(text)):
        stream.on_body(text[place : place + 1])
    assert seen == [("change", b'{"a": "b: c"}'), ("heartbeat", b"{}")]


def test_a_place_shows_all_once_each_lane_counts_all_of_its_own() -> None:
    lanes = [Lane(), Lane()]
    lanes[0].accepted_at = [0.0, 0.0]
    watch = Watch([10, 0])
    assert not watch.shows_all(lanes)
    watch.see([11, 5])
    assert not watch.shows_all(lanes)
    watch.see([12, 5])
    assert watch.shows_all(lanes)
    assert len(watch.delays_ms(lanes)) == 2


def test_a_change_leaves_the_lanes_that_it_does_not_name_as_they_were() -> None:
    assert counts_in([3, 4], []) == [3, 4]


def test_scenarios_that_share_a_system_run_before_those_that_start_their_own() -> None:
    shared = [one.run is not None for one in chosen([])]
    assert shared == sorted(shared, reverse=True)
    assert [one.name for one in chosen(["scale", "ingest"])] == ["ingest", "scale"]
    assert {one.name for one in chosen([])} == {one.name for one in SCENARIOS.values() if one.by_default}
