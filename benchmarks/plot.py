"""Bars in SVG, written by hand: no library, the same octets for the same figures, light and dark."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

__all__ = ["Bar", "Panel", "plot"]

WIDTH, LABELS, GAP, ROW, BAR = 860, 190, 26, 24, 15
TOP, BETWEEN, BOTTOM = 76, 12, 14
#: Room for the figure behind the longest bar.
VALUE = 92
ROUND = (1.0, 1.25, 1.5, 2.0, 2.5, 3.0, 4.0, 5.0, 6.0, 8.0, 10.0)
STYLE = """
  text { font: 12px system-ui, sans-serif; fill: #1f2328 }
  .title { font-size: 15px; font-weight: 600 } .quiet { fill: #59636e }
  .page { fill: #ffffff } .axis { stroke: #d1d9e0 } .spread { stroke: #1f2328 }
  .ours { fill: #2f6fde } .second { fill: #7ba5ee } .peer { fill: #d9822b }
  @media (prefers-color-scheme: dark) {
    text { fill: #e6edf3 } .quiet { fill: #9198a1 }
    .page { fill: #0d1117 } .axis { stroke: #3d444d } .spread { stroke: #e6edf3 }
    .ours { fill: #5a93f5 } .second { fill: #33549a } .peer { fill: #e39a4f }
  }"""


@dataclass(frozen=True, slots=True)
class Bar:
    """One bar of a panel: its figure, the smallest and largest of all runs, and a remark behind it."""

    value: float
    low: float = 0.0
    high: float = 0.0
    remark: str = ""


@dataclass(frozen=True, slots=True)
class Panel:
    """A column of bars with one unit; None leaves a row empty."""

    title: str
    bars: Sequence[Bar | None]


def plot(title: str, subtitle: str, rows: Sequence[tuple[str, str, str]], panels: Sequence[Panel]) -> str:
    """Rows of (heading, label, colour) with a bar in each panel. Rows of one heading stand together."""
    places, height = row_places(rows)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}"'
        f' height="{height}" role="img" aria-label="{escape(title)}">',
        f"<style>{STYLE}\n</style>",
        f'<rect class="page" width="{WIDTH}" height="{height}"/>',
        text(10, 22, title, "title"),
        text(10, 40, subtitle, "quiet"),
    ]
    heading = ""
    for (above, label, _), y in zip(rows, places, strict=True):
        if above != heading:
            heading = above
            parts.append(text(10, y + BAR - 3, above))
        parts.append(text(LABELS - 8, y + BAR - 3, label, "quiet", anchor="end"))
    wide = (WIDTH - LABELS - 10 - GAP * (len(panels) - 1)) / len(panels)
    for number, panel in enumerate(panels):
        parts += bars(panel, LABELS + number * (wide + GAP), wide, [row[2] for row in rows], places, height)
    return "\n".join([*parts, "</svg>"]) + "\n"


def row_places(rows: Sequence[tuple[str, str, str]]) -> tuple[list[int], int]:
    """The upper edge of each row, and the height of the whole."""
    places, y, heading = [], TOP, ""
    for above, _, _ in rows:
        if heading and above != heading:
            y += BETWEEN
        heading = above
        places.append(y)
        y += ROW
    return places, y + BOTTOM


def bars(
    panel: Panel, x: float, wide: float, colours: Sequence[str], places: Sequence[int], height: int
) -> list[str]:
    most = max((max(bar.value, bar.high) for bar in panel.bars if bar is not None), default=0.0)
    scale = (wide - VALUE) / nice_above(most)
    found = [text(x, TOP - 8, panel.title, "quiet"), line(x, TOP - 2, x, height - BOTTOM, "axis")]
    for bar, colour, y in zip(panel.bars, colours, places, strict=True):
        if bar is None:
            continue
        length = bar.value * scale
        end = max(bar.value, bar.high) * scale
        found.append(f'<rect class="{colour}" x="{x:.1f}" y="{y}" width="{length:.1f}" height="{BAR}"/>')
        if bar.high > bar.low:
            middle = y + BAR / 2
            found.append(line(x + bar.low * scale, middle, x + bar.high * scale, middle, "spread"))
        remark = f" ({bar.remark})" if bar.remark else ""
        found.append(text(x + end + 5, y + BAR - 3, number_text(bar.value) + remark))
    return found


def nice_above(most: float) -> float:
    """A round number that is not less, so that plots of like figures look alike."""
    if most <= 0:
        return 1.0
    power = 10.0 ** math.floor(math.log10(most))
    return next(
        step * power for step in (1, 1.25, 1.5, 2, 2.5, 3, 4, 5, 6, 8, 10) if step * power >= most * 0.999
    )


def number_text(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def text(x: float, y: float, words: str, kind: str = "", anchor: str = "") -> str:
    style = f' class="{kind}"' if kind else ""
    style += f' text-anchor="{anchor}"' if anchor else ""
    return f'<text x="{x:.1f}" y="{y:.1f}"{style}>{escape(words)}</text>'


def line(x: float, y: float, to_x: float, to_y: float, kind: str) -> str:
    return f'<line class="{kind}" x1="{x:.1f}" y1="{y:.1f}" x2="{to_x:.1f}" y2="{to_y:.1f}"/>'
