"""Draws a chart as SVG: two panels with logarithmic axes do not justify a plotting library."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final
from xml.sax.saxutils import escape

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = ["Panel", "draw"]

_WIDTH: Final = 420
_HEIGHT: Final = 300
_LEFT, _RIGHT, _TOP, _BOTTOM = 64, 20, 46, 48
_COLOURS: Final = ("#0b6e4f", "#8a8a8a", "#c1121f", "#e07a1f", "#3a5a98")


@dataclass(frozen=True)
class Panel:
    """One panel of the chart.

    :param series: points by name; all values must be above 0.
    """

    title: str
    across: str
    series: Mapping[str, Sequence[tuple[float, float]]]


class _Axis:
    """Maps values to positions on a logarithmic axis that starts and ends at powers of ten."""

    def __init__(self, values: Sequence[float], start: float, end: float) -> None:
        self._low = math.floor(math.log10(min(values)))
        self._high = max(self._low + 1, math.ceil(math.log10(max(values))))
        self._start, self._end = start, end

    def __call__(self, value: float) -> float:
        share = (math.log10(value) - self._low) / (self._high - self._low)
        return round(self._start + share * (self._end - self._start), 1)

    @property
    def ticks(self) -> list[float]:
        return [10.0**power for power in range(self._low, self._high + 1)]


def draw(panels: Sequence[Panel], names: Sequence[str], note: str) -> str:
    """Return the SVG of panels side by side, with one legend.

    :param names: names of the series in the order of the legend, which determines their colours.
    """
    colours = dict(zip(names, _COLOURS, strict=False))
    width, height = _WIDTH * len(panels), _HEIGHT + 52
    size = f'viewBox="0 0 {width} {height}" width="{width}" height="{height}"'
    font = 'font-family="sans-serif" font-size="12" fill="#222"'
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" {size} {font}>',
        f'<rect width="{width}" height="{height}" fill="#fff"/>',
    ]
    for number, panel in enumerate(panels):
        parts += [f'<g transform="translate({number * _WIDTH} 0)">', *_panel(panel, colours), "</g>"]
    for number, name in enumerate(names):
        x, y = _LEFT + number * 170, _HEIGHT + 16
        stroke = f'stroke="{colours[name]}" stroke-width="2.5"'
        parts.append(f'<line x1="{x}" y1="{y - 4}" x2="{x + 22}" y2="{y - 4}" {stroke}/>')
        parts.append(_text(x + 28, y, name))
    parts += [_text(_LEFT, _HEIGHT + 40, note, size=10), "</svg>"]
    return "\n".join(parts) + "\n"


def _panel(panel: Panel, colours: Mapping[str, str]) -> list[str]:
    points = [point for series in panel.series.values() for point in series]
    x = _Axis([each for each, _ in points], _LEFT, _WIDTH - _RIGHT)
    y = _Axis([each for _, each in points], _HEIGHT - _BOTTOM, _TOP)
    parts = [_text(_LEFT, _TOP - 18, panel.title, weight="bold")]
    for tick in x.ticks:
        parts += [
            f'<line x1="{x(tick)}" y1="{_TOP}" x2="{x(tick)}" y2="{_HEIGHT - _BOTTOM}" stroke="#eee"/>',
            _text(x(tick), _HEIGHT - _BOTTOM + 16, f"{tick:,g}", anchor="middle"),
        ]
    for tick in y.ticks:
        parts += [
            f'<line x1="{_LEFT}" y1="{y(tick)}" x2="{_WIDTH - _RIGHT}" y2="{y(tick)}" stroke="#ddd"/>',
            _text(_LEFT - 8, y(tick) + 4, f"{tick:,g}", anchor="end"),
        ]
    parts.append(_text((_LEFT + _WIDTH - _RIGHT) / 2, _HEIGHT - 14, panel.across, anchor="middle"))
    for name, series in panel.series.items():
        places = [(x(a), y(b)) for a, b in series]
        line = " ".join(f"{a},{b}" for a, b in places)
        parts.append(f'<polyline points="{line}" fill="none" stroke="{colours[name]}" stroke-width="2.5"/>')
        parts += [f'<circle cx="{a}" cy="{b}" r="3.5" fill="{colours[name]}"/>' for a, b in places]
    return parts


def _text(
    x: float, y: float, text: str, *, anchor: str = "start", size: int = 12, weight: str = "normal"
) -> str:
    font = f'font-size="{size}" font-weight="{weight}"'
    return f'<text x="{x}" y="{y}" text-anchor="{anchor}" {font}>{escape(text)}</text>'
