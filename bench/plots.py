"""Growth curves as SVG: small, without any dependency, readable on paper. What is drawn is what was measured, with its number."""

import math
from collections.abc import Iterator, Sequence
from html import escape

import msgspec

WIDTH, HEIGHT = 720, 400
LEFT, RIGHT, TOP, BOTTOM = 76, 24, 76, 58
# Told apart by everybody: Okabe and Ito's, without their yellow, which is too light for a line.
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00")
INK, MUTED, GRID, PAPER = "#1f2933", "#616e7c", "#e4e7eb", "#ffffff"
FONT = "font-family='system-ui, -apple-system, Segoe UI, Roboto, sans-serif'"
TICKS = 5
_LEGEND_LINE, _CHARACTER, _SWATCH = 20, 6.6, 30
_NICE = (1.0, 2.0, 2.5, 5.0, 10.0)
_THOUSAND = 1000


class Line(msgspec.Struct, frozen=True, kw_only=True):
    """One series. A `limit` is drawn dashed and grey: what the parts allow, or what is aimed at."""

    name: str
    points: tuple[tuple[float, float], ...]
    limit: bool = False


class Plot(msgspec.Struct, frozen=True, kw_only=True):
    """`x` is logarithmic; `y` begins at 0, unless it is logarithmic too."""

    title: str
    x_label: str
    y_label: str
    lines: tuple[Line, ...]
    logarithmic: bool = False


class Scale(msgspec.Struct, frozen=True, kw_only=True):
    """From values to pixels."""

    low: float
    high: float
    start: float
    end: float
    logarithmic: bool = False

    def at(self, value: float) -> float:
        low, high, value = (self._turned(one) for one in (self.low, self.high, value))
        if high == low:
            return (self.start + self.end) / 2
        return self.start + (value - low) / (high - low) * (self.end - self.start)

    def _turned(self, value: float) -> float:
        return math.log10(value) if self.logarithmic else value


def linear_ticks(highest: float, count: int = TICKS) -> list[float]:
    """From 0 in equal round steps, the last at or above `highest`; about `count` of them."""
    if highest <= 0:
        return [0.0, 1.0]
    rough = highest / count
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(nice * power for nice in _NICE if nice * power >= rough * (1 - 1e-9))
    return [step * place for place in range(math.ceil(highest / step * (1 - 1e-9)) + 1)]


def decades(lowest: float, highest: float) -> list[float]:
    """The powers of ten that lie around the values: two at least."""
    first, last = math.floor(math.log10(lowest) + 1e-9), math.ceil(math.log10(highest) - 1e-9)
    return [10.0**power for power in range(first, max(last, first + 1) + 1)]


def short(value: float) -> str:
    """1,234,567 as 1.2M: three digits at most."""
    for limit, suffix in ((_THOUSAND**3, "G"), (_THOUSAND**2, "M"), (_THOUSAND, "k")):
        if abs(value) >= limit * 0.9995:
            return f"{value / limit:.3g}{suffix}"
    return f"{value:.3g}"


def svg_of(plot: Plot) -> str:
    """Raises ValueError for a plot without points."""
    points = [point for line in plot.lines for point in line.points]
    if not points:
        raise ValueError("nothing to draw")
    legend = list(legend_places(plot.lines))
    top = TOP + legend[-1][1]
    lowest, highest = min(x for x, _ in points), max(x for x, _ in points)
    values = [value for _, value in points]
    y_ticks = decades(min(values), max(values)) if plot.logarithmic else linear_ticks(max(values))
    # A little room beside the first and the last point, so that no mark lies on the frame.
    x = Scale(low=lowest / 1.25, high=highest * 1.25, start=LEFT, end=WIDTH - RIGHT, logarithmic=True)
    y = Scale(low=y_ticks[0], high=y_ticks[-1], start=HEIGHT - BOTTOM, end=top, logarithmic=plot.logarithmic)
    size = f"viewBox='0 0 {WIDTH} {HEIGHT}' width='{WIDTH}' height='{HEIGHT}'"
    parts = [
        f"<svg xmlns='http://www.w3.org/2000/svg' {size} role='img' {FONT} font-size='12'>",
        f"<title>{escape(plot.title)}</title>",
        f"<rect width='{WIDTH}' height='{HEIGHT}' fill='{PAPER}'/>",
        _text(LEFT, 28, plot.title, size=16, weight=600),
        *_legend(legend),
        *_axes(plot, x, y, y_ticks, sorted({place for place, _ in points})),
    ]
    colours = iter(COLOURS)
    for line in plot.lines:
        parts += _drawn(line, MUTED if line.limit else next(colours), x, y)
    return "\n".join([*parts, "</svg>", ""])


def legend_places(lines: Sequence[Line]) -> Iterator[tuple[int, int, Line]]:
    """(x, y offset, line): in rows as wide as the plot."""
    x, y = LEFT, 0
    for line in lines:
        width = round(_SWATCH + len(line.name) * _CHARACTER + 16)
        if x > LEFT and x + width > WIDTH - RIGHT:
            x, y = LEFT, y + _LEGEND_LINE
        yield x, y, line
        x += width


def _legend(places: Sequence[tuple[int, int, Line]]) -> Iterator[str]:
    colours = iter(COLOURS)
    for x, offset, line in places:
        colour, dashes = (MUTED, " stroke-dasharray='5 4'") if line.limit else (next(colours), "")
        y = 52 + offset
        yield f"<path d='M{x} {y - 4}h20' stroke='{colour}' stroke-width='2.5'{dashes}/>"
        yield _text(x + 26, y, line.name)


def _axes(plot: Plot, x: Scale, y: Scale, y_ticks: Sequence[float], values: Sequence[float]) -> Iterator[str]:
    for tick in y_ticks:
        place = y.at(tick)
        yield f"<path d='M{LEFT} {place:.1f}H{WIDTH - RIGHT}' stroke='{GRID}'/>"
        yield _text(LEFT - 8, place + 4, short(tick), anchor="end", colour=MUTED)
    for value in values:
        place = x.at(value)
        yield f"<path d='M{place:.1f} {HEIGHT - BOTTOM}v5' stroke='{MUTED}'/>"
        yield _text(place, HEIGHT - BOTTOM + 20, short(value), anchor="middle", colour=MUTED)
    yield f"<path d='M{LEFT} {HEIGHT - BOTTOM}H{WIDTH - RIGHT}' stroke='{MUTED}'/>"
    yield _text((LEFT + WIDTH - RIGHT) / 2, HEIGHT - 14, plot.x_label, anchor="middle")
    middle = (y.start + y.end) / 2
    yield _text(18, middle, plot.y_label, anchor="middle", turned=True)


def _drawn(line: Line, colour: str, x: Scale, y: Scale) -> Iterator[str]:
    places = [(x.at(at), y.at(value), value) for at, value in sorted(line.points)]
    path = "L".join(f"{px:.1f} {py:.1f}" for px, py, _ in places)
    dashes = " stroke-dasharray='5 4'" if line.limit else ""
    yield f"<path d='M{path}' fill='none' stroke='{colour}' stroke-width='2.5' stroke-linejoin='round'{dashes}/>"
    if line.limit:  # once: it is there to be compared with
        px, py, value = places[-1]
        yield _text(px, py - 8, short(value), anchor="middle", colour=colour, halo=True)
        return
    for px, py, value in places:
        yield f"<circle cx='{px:.1f}' cy='{py:.1f}' r='4' fill='{colour}' stroke='{PAPER}' stroke-width='1.5'/>"
        # White round the letters, where a line runs behind them.
        yield _text(px, py - 9, short(value), anchor="middle", colour=colour, halo=True)


def _text(
    x: float,
    y: float,
    text: str,
    *,
    size: int = 12,
    weight: int = 400,
    anchor: str = "start",
    colour: str = INK,
    turned: bool = False,
    halo: bool = False,
) -> str:
    more = f" transform='rotate(-90 {x:.1f} {y:.1f})'" if turned else ""
    more += f" paint-order='stroke' stroke='{PAPER}' stroke-width='3'" if halo else ""
    return (
        f"<text x='{x:.1f}' y='{y:.1f}' font-size='{size}' font-weight='{weight}' text-anchor='{anchor}' "
        f"fill='{colour}'{more}>{escape(text)}</text>"
    )
