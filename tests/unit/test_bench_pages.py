"""What is made of measured figures: curves, and the plan of what a rate needs."""

import math
from pathlib import Path
from xml.etree import ElementTree as ET

import msgspec
import pytest

from bench import capacity, pages
from bench.capacity import Costs, MissingFigure
from bench.figures import Measured, Result
from bench.plots import Line, Plot, Scale, decades, linear_ticks, short, svg_of
from bench.published import published_results
from bench.report import write_results
from bench.targets import TARGETS, Target

SVG = "{http://www.w3.org/2000/svg}"
COSTS = Costs(cpu_s_a_million=dict.fromkeys(capacity.PROCESSES, 6.0), event_bytes=100.0, log_bytes=200.0)


def result(scenario: str, figure: str, value: float, unit: str = "ms", ceiling: float | None = None) -> Result:
    return Result(scenario=scenario, figure=figure, value=value, unit=unit, ceiling=ceiling, ratio=None)


# --- curves ---------------------------------------------------------------------------------------------------------


def test_a_logarithmic_scale_puts_equal_factors_at_equal_distances() -> None:
    scale = Scale(low=1, high=10_000, start=100, end=500, logarithmic=True)
    assert [scale.at(value) for value in (1, 10, 100, 1000, 10_000)] == pytest.approx([100, 200, 300, 400, 500])


def test_a_scale_may_run_downwards_as_pixels_do() -> None:
    assert Scale(low=0, high=50, start=300, end=100).at(25) == pytest.approx(200)


def test_one_value_alone_lies_in_the_middle() -> None:
    assert Scale(low=5, high=5, start=0, end=10).at(5) == 5


@pytest.mark.parametrize("highest", [0.004, 0.9, 1, 1.01, 7, 50, 99.9, 100, 123_456, 9_999_999])
def test_ticks_are_round_and_hold_the_greatest_value(highest: float) -> None:
    ticks = linear_ticks(highest)
    assert ticks[0] == 0
    assert highest <= ticks[-1] * (1 + 1e-9)
    assert ticks[-2] < highest
    assert 3 <= len(ticks) <= 7
    step = ticks[1] / 10.0 ** math.floor(math.log10(ticks[1]))
    assert min(abs(step - nice) for nice in (1, 2, 2.5, 5, 10)) < 1e-9


def test_decades_lie_around_the_values_and_are_two_at_least() -> None:
    assert decades(13_600, 1_658_000) == [1e4, 1e5, 1e6, 1e7]
    assert decades(100, 100) == [100, 1000]


def test_nothing_measured_above_zero_still_has_an_axis() -> None:
    assert linear_ticks(0) == [0, 1]


@pytest.mark.parametrize(
    ("value", "text"),
    [(0, "0"), (7.25, "7.25"), (999, "999"), (999.9, "1k"), (12_345, "12.3k"), (1e7, "10M"), (2e9, "2G")],
)
def test_numbers_in_a_plot_have_three_digits_at_most(value: float, text: str) -> None:
    assert short(value) == text


def test_a_plot_is_well_formed_and_says_its_axes_and_every_value() -> None:
    line = Line(name="a <b> & c", points=((1e6, 11.0), (1e7, 14.5)))
    aim = Line(name="target", points=((1e6, 50.0), (1e7, 50.0)), limit=True)
    root = ET.fromstring(  # noqa: S314 - our own text
        svg_of(Plot(title="T", x_label="stored", y_label="ms", lines=(line, aim)))
    )
    texts = [node.text for node in root.iter(f"{SVG}text")]
    assert {"T", "stored", "ms", "a <b> & c", "target", "1M", "10M", "11", "14.5"} <= set(texts)
    assert len(list(root.iter(f"{SVG}circle"))) == 2


def test_a_plot_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="nothing to draw"):
        svg_of(Plot(title="", x_label="", y_label="", lines=()))


def test_a_curve_has_a_line_for_each_name_in_the_figures_and_leaves_others_out() -> None:
    [curve] = [one for one in pages.CURVES if one.file == "usage"]
    figures = [
        result("usage", "1,000,000 stored events, a month by day, p95", 10),
        result("usage", "10,000,000 stored events, a month by day, p95", 12),
        result("usage", "10,000,000 stored events, a month by day, p50", 5),
        result("check", "10,000,000 stored events, a month by day, p95", 99),
    ]
    plot = pages.plot_of(curve, figures)
    assert plot is not None
    assert [(line.name, line.points) for line in plot.lines] == [("a month by day", ((1e6, 10), (1e7, 12)))]
    assert pages.plot_of(curve, figures[:1]) is None


def test_every_figure_of_the_pages_comes_from_the_latest_run_that_has_it(tmp_path: Path) -> None:
    old, new = tmp_path / "a.json", tmp_path / "b.json"
    rate = Measured(scenario="ingest", figure="100 a request", unit="events/s", values=(5.0,))
    write_results([rate, msgspec.structs.replace(rate, unit="ms", values=(9.0,))], old)
    write_results([msgspec.structs.replace(rate, values=(7.0,))], new)
    assert {(one.unit, one.value) for one in published_results([old, new])} == {("events/s", 7), ("ms", 9)}


# --- targets --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("unit", "value", "met"), [("events/s", 100, True), ("events/s", 99, False), ("ms", 100, True), ("ms", 101, False)]
)
def test_a_target_is_a_floor_for_rates_and_a_bound_for_durations(unit: str, value: float, met: bool) -> None:
    assert Target(scenario="s", figure="f", value=100).is_met([result("s", "f", value, unit)]) is met


def test_a_target_may_be_a_share_of_the_ceiling() -> None:
    found = msgspec.structs.replace(result("s", "f", 60, "events/s", ceiling=100), ratio=0.6)
    assert Target(scenario="s", figure="f", share=0.6).is_met([found])
    assert not Target(scenario="s", figure="f", share=0.7).is_met([found])


def test_a_target_may_bound_how_much_a_figure_grows() -> None:
    target = Target(scenario="s", figure="many", times=1.5, than="few")
    few = result("s", "few", 10)
    assert target.is_met([few, result("s", "many", 15)]) is True
    assert target.is_met([few, result("s", "many", 16)]) is False
    assert target.is_met([result("s", "many", 1)]) is None


def test_what_is_aimed_at_and_was_not_measured_is_said() -> None:
    page = pages.figures_page([])
    assert page.count("not measured") == len(TARGETS)


# --- capacity -------------------------------------------------------------------------------------------------------


def test_cores_are_the_cost_times_the_rate_with_room_to_spare() -> None:
    # 6 s a million is 6 µs an event: 100,000 events/s keep 0.6 cores busy, which is one core at 60 %.
    assert capacity.cores_for(6.0, 100_000) == pytest.approx(1.0)


def test_partitions_are_a_power_of_two_with_two_for_each_worker() -> None:
    assert [capacity.partitions_for(workers) for workers in (1, 2, 3, 10, 16, 17)] == [4, 4, 8, 32, 32, 64]


def test_processes_are_whole_and_servers_outlive_one_of_them() -> None:
    small, large = capacity.plan(COSTS, 1_000), capacity.plan(COSTS, 1_000_000)
    assert (small.api, small.workers, small.kafka, small.clickhouse, small.postgres) == (1, 1, 3, 2, 2)
    assert (large.api, large.workers, large.clickhouse_shards, large.clickhouse) == (10, 10, 2, 4)
    assert large.partitions == 32


def test_a_server_has_an_even_number_of_cores_and_two_at_least() -> None:
    assert [capacity.server_cores(cores, 2) for cores in (0.1, 4, 4.1, 16)] == [4, 4, 8, 16]


def test_storage_is_what_is_kept_times_its_replicas_on_disks_with_room() -> None:
    kept = 100 * capacity.SECONDS_A_MONTH * capacity.EVENTS_KEPT_MONTHS * capacity.CLICKHOUSE_REPLICAS
    logged = 200 * 86_400 * capacity.KAFKA_KEPT_DAYS * capacity.KAFKA_REPLICAS
    assert capacity.storage_gb(COSTS, 1_000) == pytest.approx((kept + logged) * 1_000 / capacity.DISK_FILLED / 1e9)


def test_money_is_cores_and_disk_and_a_million_events_share_it() -> None:
    plan = capacity.plan(COSTS, 100_000)
    compute = plan.cores * capacity.HOURS_A_MONTH * capacity.PRICE_A_CORE_HOUR
    assert plan.money == pytest.approx(compute + plan.storage_gb * capacity.PRICE_A_GB_MONTH)
    assert plan.money_a_million == pytest.approx(plan.money / (0.1 * capacity.SECONDS_A_MONTH))


def test_costs_are_those_with_the_most_stored_events_and_nothing_is_made_up() -> None:
    names = (*capacity.PROCESSES, "bytes of events", "bytes of windows", "bytes of the log")
    figures = [
        result("cost", f"{level} stored events, {name}", value, "CPU s/million")
        for name in names
        for level, value in (("10,000,000", 2.0), ("1,000,000", 1.0))
    ]
    costs = capacity.costs_of(figures)
    assert costs == Costs(cpu_s_a_million=dict.fromkeys(capacity.PROCESSES, 2.0), event_bytes=4.0, log_bytes=2.0)
    with pytest.raises(MissingFigure, match="no figure for api:"):
        capacity.costs_of([one for one in figures if not one.figure.endswith("api")])


def test_the_capacity_page_has_a_column_for_each_rate() -> None:
    page = pages.capacity_page(COSTS)
    assert "| events/s | 1,000 | 100,000 | 1,000,000 |" in page
