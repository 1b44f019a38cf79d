"""What the benchmark says about what it measured."""

import json
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path

import pytest
from rich.console import Console

from bench import report
from bench.events import CUSTOMERS, EventSource
from bench.figures import Measured, Result, percentile, result_of, spread
from bench.load import Target
from bench.medians import medians
from bench.scenarios.freshness import Lane
from domain.events import parse_event, split_events
from domain.identity import event_identity, partition_of
from schemas.catalog import TenantLimits
from schemas.events import UsageEvent

NOW = datetime(2026, 11, 23, 10, 0, tzinfo=UTC)
NOW_MS = int(NOW.timestamp() * 1000)
PARTITIONS = 4


def measured(*values: float, unit: str = "events/s", ceiling: float | None = None) -> Measured:
    return Measured(scenario="ingest", figure="100 a request", unit=unit, values=values, ceiling=ceiling)


def parsed(body: bytes) -> list[UsageEvent]:
    return [parse_event(raw, NOW_MS, TenantLimits()) for raw in split_events(body)]


@pytest.mark.parametrize(("percent", "expected"), [(0, 1), (50, 50), (95, 95), (99, 99), (99.5, 100), (100, 100)])
def test_a_percentile_is_the_smallest_value_that_so_many_do_not_exceed(percent: float, expected: float) -> None:
    assert percentile([float(value) for value in range(100, 0, -1)], percent) == expected


def test_one_value_is_every_percentile_and_none_has_no_percentile() -> None:
    assert percentile([3.0], 1) == percentile([3.0], 99) == 3.0
    with pytest.raises(ValueError, match="no values"):
        percentile([], 50)


def test_a_result_is_the_median_and_one_outlier_does_not_move_it() -> None:
    assert result_of(measured(100, 101, 5)).value == 100


def test_the_spread_is_the_distance_of_the_extremes_relative_to_the_median() -> None:
    assert spread([90, 100, 120]) == pytest.approx(0.3)
    assert spread([7]) == spread([0, 0, 0]) == 0


def test_the_ratio_is_the_share_of_the_ceiling_for_rates_and_durations_alike() -> None:
    assert result_of(measured(50, ceiling=200)).ratio == 0.25
    assert result_of(measured(4, unit="ms", ceiling=1)).ratio == 0.25
    assert result_of(measured(50)).ratio is None


def test_results_are_a_list_of_six_fields_that_reads_back(tmp_path: Path) -> None:
    path = tmp_path / "results" / "latest.json"
    report.write_results([measured(1234.5678, ceiling=2000)], path)
    [written] = json.loads(path.read_text())
    assert written == {
        "scenario": "ingest",
        "figure": "100 a request",
        "value": 1235,
        "unit": "events/s",
        "ceiling": 2000,
        "ratio": 0.6173,
    }
    assert report.read_results(path) == [Result(**written)]
    assert [file.name for file in path.parent.iterdir()] == ["latest.json"]


@pytest.mark.parametrize(
    ("values", "unit", "before", "verdict"),
    [
        ((200.0, 200.0, 200.0), "events/s", 100.0, "better"),
        ((50.0, 50.0, 50.0), "events/s", 100.0, "worse"),
        ((50.0, 50.0, 50.0), "ms", 100.0, "better"),
        ((200.0, 200.0, 200.0), "ms", 100.0, "worse"),
        ((103.0, 103.0, 103.0), "events/s", 100.0, "same"),
        ((60.0, 120.0, 130.0), "events/s", 100.0, "same"),  # 20 % more, but the repeats lie further apart
    ],
)
def test_a_change_counts_only_beyond_the_noise(
    values: tuple[float, ...], unit: str, before: float, verdict: str
) -> None:
    old = Result(scenario="ingest", figure="100 a request", value=before, unit=unit, ceiling=None, ratio=None)
    [comparison] = report.compared([measured(*values, unit=unit)], [old])
    assert comparison.verdict == verdict


def test_figures_that_only_one_run_has_are_not_compared() -> None:
    old = Result(scenario="ingest", figure="another", value=1, unit="events/s", ceiling=None, ratio=None)
    assert report.compared([measured(1)], [old]) == []


def test_the_tables_show_every_figure() -> None:
    console = Console(width=160, record=True, quiet=False, file=None, force_terminal=False)
    with console.capture() as shown:
        console.print(report.table_of([measured(1000, 1100, 1200, ceiling=2200)]))
        old = Result(scenario="ingest", figure="100 a request", value=550, unit="events/s", ceiling=None, ratio=None)
        console.print(report.comparison_table(report.compared([measured(1100)], [old]), "old.json"))
    text = shown.get()
    for part in ("1,100", "18 %", "2,200", "0.50", "+100 %", "better"):
        assert part in text


def test_an_event_is_seen_when_the_count_of_its_partition_first_includes_it() -> None:
    lane = Lane()
    lane.accepted_at = [1.0, 1.0, 2.0]
    assert lane.delays([(1.1, 0), (1.5, 2), (1.9, 2), (2.25, 3), (3.0, 3)]) == [0.5, 0.5, 0.25]
    assert Lane().delays([(1.0, 0)]) == []


def test_events_are_accepted_and_each_has_an_id_of_its_own() -> None:
    source = EventSource(NOW, PARTITIONS)
    bodies = [*source.bodies(2, 1), *source.bodies(3, 100), source.lane_body(50)[0]]
    events = [event for body in bodies for event in parsed(body)]
    assert len({event.id for event in events}) == len(events) == source.made == 352


def test_bodies_that_are_not_sent_are_not_counted_as_made() -> None:
    source = EventSource(NOW, PARTITIONS)
    sent, unsent = source.bodies(1, 10), source.unsent_bodies(1, 10)
    assert source.made == 10
    assert len({event.id for body in (*sent, *unsent) for event in parsed(body)}) == 20


def test_events_name_all_customers_and_models_equally_often_whatever_the_size_of_a_request() -> None:
    for size in (1, 10, 100, 1000):
        bodies = EventSource(NOW, PARTITIONS).bodies(3000 // size, size)
        events = [event for body in bodies for event in parsed(body)]
        assert set(Counter(event.customer for event in events).values()) == {3000 // CUSTOMERS}
        assert set(Counter(event.properties["model"] for event in events).values()) == {1000}


def test_requests_carry_their_head_and_have_the_length_it_says() -> None:
    target = Target(host="there", port=80)
    source = EventSource(NOW, PARTITIONS)
    requests = source.requests(10, lambda body: target.request("POST", "/v1/events", body))
    for _ in range(3):
        head, _, body = next(requests).partition(b"\r\n\r\n")
        assert b"Content-Length: %d" % len(body) in head
        assert len(parsed(body)) == 10
    assert source.made == 30


def test_a_lanes_customer_gets_the_events_of_its_own_partition_only() -> None:
    body, counts = EventSource(NOW, PARTITIONS).lane_body(200)
    events = parsed(body)
    places = [partition_of(event_identity("default", "live", event.source, event.id), PARTITIONS) for event in events]
    assert [event.customer for event in events] == [f"lane-{place}" for place in places]
    assert counts == [places.count(number) for number in range(PARTITIONS)]


def test_of_several_runs_the_median_of_each_figure_is_told_and_of_its_ratio_by_itself() -> None:
    runs = [
        [Result(scenario="a", figure="x", value=value, unit="events/s", ceiling=ceiling, ratio=ratio)]
        for value, ceiling, ratio in ((10.0, 20.0, 0.5), (30.0, 40.0, 0.75), (20.0, 100.0, 0.2))
    ]
    runs[0].append(Result(scenario="a", figure="y", value=7.0, unit="ms", ceiling=None, ratio=None))
    assert medians(runs) == [
        Result(scenario="a", figure="x", value=20.0, unit="events/s", ceiling=40.0, ratio=0.5),
        Result(scenario="a", figure="y", value=7.0, unit="ms", ceiling=None, ratio=None),
    ]
