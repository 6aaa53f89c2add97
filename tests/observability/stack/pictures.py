"""A dashboard as a picture: its panels where Grafana has them, with the data of a real run.

Not Grafana's own pictures: no Grafana runs here. What is asked, and what is answered, is the same.
"""

from __future__ import annotations

import math
import textwrap
from collections.abc import Callable
from datetime import UTC, datetime
from io import BytesIO
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch
from matplotlib.ticker import FuncFormatter, MaxNLocator, NullLocator
from PIL import Image

from stack import dashboards
from stack.dashboards import Panel, Span
from stack.prometheus import Prometheus, Series

mpl.use("Agg")
WIDTH = 1500  # pixels, for 24 columns
ROW = 30  # pixels of a unit of height, as in Grafana
DPI = 100
GREY, INK, PALE, PAGE = "#6b7280", "#1f2328", "#e5e7eb", "#f4f5f7"
COLOURS = {"green": "#3f9b57", "#EAB839": "#d9a116", "red": "#d1344b"}
PALETTE = [
    "#3f9b57", "#d9a116", "#3b82c4", "#d1344b", "#8c5fbf",
    "#e07b39", "#2fa6a0", "#b0578d", "#7a7f3b", "#5566cc",
]  # fmt: skip

Answers = list[tuple[dict[str, Any], list[Series]]]


def draw(name: str, prometheus: Prometheus, span: Span, file: Path, **chosen: str) -> None:
    """One dashboard into one file, with all values chosen but for these variables."""
    document = dashboards.documents()[name]
    rows = max(one["gridPos"]["y"] + one["gridPos"]["h"] for one in document["panels"])
    height = rows * ROW + 50
    figure = Figure(figsize=(WIDTH / DPI, height / DPI), dpi=DPI, facecolor=PAGE)
    page = Page(figure, height)
    page.text(14, 14, document["title"], size=15, weight="bold")
    shown = f"{_clock(span.start)} to {_clock(span.end)} UTC"
    page.text(WIDTH - 14, 18, shown, size=9, color=GREY, ha="right")
    for panel in document["panels"]:
        if panel["type"] == "row":
            title = panel["title"].replace("$dag_id", "All")
            page.text(14, panel["gridPos"]["y"] * ROW + 56, title, size=11, weight="bold")
    chosen = dashboards.all_chosen(name, prometheus) | chosen
    for panel in dashboards.panels(name):
        answers = panel.answers(prometheus, span, chosen)
        page.panel(panel, answers, span)
    buffer = BytesIO()
    figure.savefig(buffer, format="png", facecolor=PAGE)
    # Few colours: a third of the bytes.
    picture = Image.open(buffer).convert("RGB").quantize(96, dither=Image.Dither.NONE)
    picture.save(file, optimize=True)


class Page:
    """A figure that is measured in pixels, from the top."""

    def __init__(self, figure: Figure, height: int) -> None:
        self._figure = figure
        self._height = height

    def text(self, x: float, y: float, text: str, *, size: float, **style: Any) -> None:
        """A text whose upper left corner is here."""
        style = {"color": INK, "va": "top"} | style
        self._figure.text(x / WIDTH, 1 - y / self._height, text, fontsize=size, **style)

    def axes(self, x: float, y: float, width: float, height: float) -> Axes:
        """Room for a drawing."""
        place = (x / WIDTH, 1 - (y + height) / self._height, width / WIDTH, height / self._height)
        return self._figure.add_axes(place)

    def panel(self, panel: Panel, answers: Answers, span: Span) -> None:
        """A panel with its frame and its title."""
        place, unit = panel.json["gridPos"], WIDTH / 24
        x, y = place["x"] * unit + 5, place["y"] * ROW + 48
        width, height = place["w"] * unit - 10, place["h"] * ROW - 8
        frame = self.axes(x, y, width, height)
        frame.set_axis_off()
        frame.add_patch(
            FancyBboxPatch((0, 0), 1, 1, boxstyle="square,pad=0", fc="white", ec=PALE, lw=1.5)
        )
        letters = max(16, int(width / 7.7))
        title = textwrap.wrap(panel.title.replace("$dag_id", "All"), letters)[:2]
        self.text(x + 9, y + 7, "\n".join(title), size=8.5, weight="bold", linespacing=1.2)
        top = 14 + 14 * len(title)
        kinds: dict[str, Callable[..., None]] = {
            "timeseries": _lines,
            "stat": _stat,
            "bargauge": _bars,
            "table": _table,
        }
        inner = self.axes(x, y + top, width, height - top)
        kinds[panel.json["type"]](inner, panel.json, answers, (width, height - top), span)


def _lines(
    axes: Axes, panel: dict[str, Any], answers: Answers, size: tuple[float, float], span: Span
) -> None:
    """Lines, and below them the names with their last values."""
    width, height = size
    unit = panel["fieldConfig"]["defaults"]["unit"]
    named = _named(answers)
    # As many names as there is room for, two in a row.
    room = max(2, int(height * 0.38 / 13) * 2)
    shown = sorted(named, key=lambda one: -_last(one[1]))[:room]
    names = min(len(shown), room)
    legend = 13 * math.ceil(names / 2) + 6
    place = axes.get_position()
    axes.set_axis_off()
    scale = place.height / height
    graph = axes.figure.add_axes(
        (
            place.x0 + place.width * 62 / width,
            place.y0 + (legend + 20) * scale,
            place.width * (width - 74) / width,
            (height - legend - 28) * scale,
        )
    )
    stacked = panel["fieldConfig"]["defaults"]["custom"]["stacking"]["mode"] == "normal"
    _draw_lines(graph, named, span, stacked=stacked)
    defaults = panel["fieldConfig"]["defaults"]
    highest = max((_number(v) for _, one in named for _, v in one["values"]), default=1)
    if defaults["custom"]["thresholdsStyle"]["mode"] == "dashed":
        for step in defaults["thresholds"]["steps"][1:]:
            if step["value"] <= highest * 3:
                graph.axhline(step["value"], color=COLOURS[step["color"]], lw=1, ls="--")
    low, high = graph.get_ylim()
    if defaults["custom"]["scaleDistribution"]["type"] == "log":
        graph.set_yscale("log")
        graph.yaxis.set_minor_locator(NullLocator())
    else:
        graph.set_ylim(min(low, 0) if defaults.get("min") != 0 else 0, max(high, 1e-9) * 1.05)
        graph.yaxis.set_major_locator(MaxNLocator(4))
    graph.set_xlim(span.start, span.end)
    graph.yaxis.set_major_formatter(FuncFormatter(lambda value, _: text_of(value, unit)))
    graph.xaxis.set_major_locator(MaxNLocator(4))
    graph.xaxis.set_major_formatter(FuncFormatter(lambda value, _: _clock(value)))
    graph.tick_params(labelsize=7, colors=GREY, length=0)
    graph.grid(color=PALE, lw=0.7)
    for side in graph.spines.values():
        side.set_visible(False)
    colours = {name: PALETTE[i % len(PALETTE)] for i, (name, _) in enumerate(named)}
    for number, (name, one) in enumerate(shown):
        column, row = number % 2, number // 2
        x, y = (12 + column * (width - 16) / 2) / width, 1 - (height - legend + 13 * row) / height
        axes.text(x, y, "━", fontsize=8, color=colours[name], va="top")
        letters = int((width / 2 - 80) / 5)
        short = name if len(name) <= letters else name[: letters - 1] + "…"
        label = f"{short}  {text_of(_last(one), unit)}"
        axes.text(x + 15 / width, y, label, fontsize=7, color=INK, va="top")


def _draw_lines(graph: Axes, named: list[tuple[str, Series]], span: Span, *, stacked: bool) -> None:
    below: dict[float, float] = {}
    for number, (_, one) in enumerate(named):
        colour = PALETTE[number % len(PALETTE)]
        points = [(t, _number(v)) for t, v in one["values"] if not math.isnan(_number(v))]
        times = [t for t, _ in points]
        low = [below.get(t, 0.0) if stacked else 0.0 for t in times]
        high = [v + base for (_, v), base in zip(points, low, strict=True)]
        gap = 3 * span.step
        # Where nothing was said there is no line.
        for start, end in _runs(times, gap):
            graph.plot(times[start:end], high[start:end], color=colour, lw=1.2)
            if stacked:
                part = slice(start, end)
                graph.fill_between(times[part], low[part], high[part], color=colour, alpha=0.25)
        if stacked:
            below |= dict(zip(times, high, strict=True))


def _runs(times: list[float], gap: float) -> list[tuple[int, int]]:
    cuts = [i for i in range(1, len(times)) if times[i] - times[i - 1] > gap]
    return list(zip([0, *cuts], [*cuts, len(times)], strict=True))


def _stat(
    axes: Axes, panel: dict[str, Any], answers: Answers, size: tuple[float, float], span: Span
) -> None:
    """Large numbers, on the colours of their thresholds."""
    del span
    axes.set_axis_off()
    axes.set(xlim=(0, 1), ylim=(0, 1))
    named = _named(answers) or [("", None)]
    defaults = panel["fieldConfig"]["defaults"]
    for number, (name, one) in enumerate(named):
        left, share = number / len(named), 1 / len(named)
        value = math.nan if one is None else _last(one)
        has_steps = len(defaults["thresholds"]["steps"]) > 1
        colour = _colour(panel, value) if has_steps else "white"
        axes.add_patch(
            FancyBboxPatch(
                (left + 0.02, 0.07),
                share - 0.04,
                0.86,
                boxstyle="square,pad=0",
                fc=colour,
                ec="none",
            )
        )
        ink = "white" if has_steps else INK
        shown = text_of(value, defaults["unit"], defaults.get("decimals"))
        axes.text(
            left + share / 2, 0.5, shown, fontsize=min(24, size[0] * share / 6), color=ink,
            ha="center", va="center", weight="bold",
        )  # fmt: skip
        if len(named) > 1:
            axes.text(left + share / 2, 0.16, name, fontsize=8, color=ink, ha="center")


def _bars(
    axes: Axes, panel: dict[str, Any], answers: Answers, size: tuple[float, float], span: Span
) -> None:
    """A bar for each series."""
    del span
    axes.set_axis_off()
    axes.set(xlim=(0, 1), ylim=(0, 1))
    defaults = panel["fieldConfig"]["defaults"]
    rows = max(1, int(size[1] / 34))
    named = sorted(_named(answers), key=lambda one: -_last(one[1]))[:rows]
    most = defaults.get("max") or max((_last(one) for _, one in named), default=1) or 1
    for number, (name, one) in enumerate(named):
        y = 1 - (number + 0.8) / max(rows, len(named))
        value = _last(one)
        length = min(1.0, max(0.0, value / most)) * 0.74
        bar = 9 / size[1]
        for part, colour in ((0.74, PALE), (length, _colour(panel, value))):
            axes.add_patch(
                FancyBboxPatch((0.03, y), part, bar, boxstyle="square,pad=0", fc=colour, ec="none")
            )
        axes.text(0.03, y + bar * 1.5, name, fontsize=7.5, color=INK, va="bottom")
        shown = text_of(value, defaults["unit"], defaults.get("decimals"))
        axes.text(0.97, y, shown, fontsize=9, color=INK, ha="right", weight="bold")


def _table(
    axes: Axes, panel: dict[str, Any], answers: Answers, size: tuple[float, float], span: Span
) -> None:
    """Labels and values."""
    del span
    axes.set_axis_off()
    [(_, series)] = answers
    rows = max(1, int(size[1] / 17) - 1)
    series = sorted(series, key=lambda one: -_last(one))[:rows]
    labels = sorted({label for one in series for label in one["metric"]})
    unit = panel["fieldConfig"]["defaults"]["unit"]
    lines = [[*labels, "Value"]]
    lines += [
        [*(one["metric"].get(label, "") for label in labels), text_of(_last(one), unit, 0)]
        for one in series
    ]
    for number, cells in enumerate(lines):
        y = 1 - (number + 0.6) * 17 / size[1]
        for column, cell in enumerate(cells):
            x = 0.03 + column * 0.94 / len(cells)
            style = {"weight": "bold", "color": GREY} if number == 0 else {"color": INK}
            axes.text(x, y, cell, fontsize=7.5, va="center", **style)


def _named(answers: Answers) -> list[tuple[str, Series]]:
    return [
        (dashboards.legend(target, one) or "Value", one)
        for target, series in answers
        for one in series
    ]


def _last(series: Series) -> float:
    if "value" in series:
        return _number(series["value"][1])
    numbers = [_number(value) for _, value in series["values"]]
    return next(value for value in reversed(numbers) if not math.isnan(value))


def _number(text: str) -> float:
    return float(text)


def _colour(panel: dict[str, Any], value: float) -> str:
    steps = panel["fieldConfig"]["defaults"]["thresholds"]["steps"]
    reached = [s for s in steps if s["value"] is None or value >= s["value"]]
    return COLOURS[reached[-1]["color"]]


def _clock(moment: float) -> str:
    return datetime.fromtimestamp(moment, tz=UTC).strftime("%H:%M:%S")


def text_of(value: float, unit: str, decimals: int | None = None) -> str:
    """A number as Grafana writes it, more or less."""
    if math.isnan(value):
        return "none"
    if decimals == 0:
        value = round(value)
    if unit == "bool_yes_no":
        return "Yes" if value else "No"
    if unit == "percentunit":
        return f"{value * 100:.3g} %"
    if unit == "s":
        return _time(value)
    if unit in ("bytes", "Bps"):
        return _scaled(value, 1024, ["B", "KiB", "MiB", "GiB", "TiB"]) + "/s" * (unit == "Bps")
    suffix = {"reqps": " req/s", "ops": "/s", "rowsps": " rows/s"}.get(unit, "")
    return _scaled(value, 1000, ["", "K", "M", "G"]) + suffix


def _time(value: float) -> str:
    size = abs(value)
    for seconds, name in ((86_400, "days"), (3_600, "h"), (60, "min")):
        if size >= seconds:
            return f"{_digits(value / seconds)} {name}"
    if size >= 1 or size == 0:
        return f"{value:.3g} s"
    return f"{value * 1000:.3g} ms" if size >= 1e-3 else f"{value * 1e6:.3g} µs"


def _scaled(value: float, base: int, names: list[str]) -> str:
    step = 0
    while abs(value) >= base and step < len(names) - 1:
        value, step = value / base, step + 1
    return f"{_digits(value)} {names[step]}".strip()


def _digits(value: float) -> str:
    return f"{value:.3g}" if abs(value) < 1000 else f"{value:.0f}"
