"""The plots are SVG that an XML parser takes, with every figure in it."""

from __future__ import annotations

import xml.etree.ElementTree as tree

import pytest

from benchmarks.plot import Bar, Panel, nice_above, plot

ROWS = [("10 KB", "ours & co", "ours"), ("10 KB", "theirs", "peer"), ("1 KB", "ours & co", "ours")]
PANELS = [
    Panel("messages a second", [Bar(4000.0, 3500.0, 4200.0, "8 x"), Bar(500.0), Bar(0.5)]),
    Panel("CPU", [None, Bar(2000.0, 1900.0, 2100.0), None]),
]


def drawn() -> tree.Element:
    return tree.fromstring(plot("A < B", "about it", ROWS, PANELS))


def test_plot_is_well_formed_and_says_every_figure() -> None:
    words = [element.text for element in drawn().iter("{http://www.w3.org/2000/svg}text")]

    assert {"A < B", "about it", "4,000 (8 x)", "500", "0.5", "2,000", "ours & co"} <= set(words)
    assert words.count("10 KB") == 1


def test_bars_are_as_long_as_their_figures_and_stay_inside() -> None:
    root = drawn()
    bars = [rect for rect in root.iter("{http://www.w3.org/2000/svg}rect") if rect.get("class") != "page"]
    width = float(root.attrib["width"])

    lengths = [float(bar.attrib["width"]) for bar in bars]
    assert lengths[0] / lengths[1] == pytest.approx(8.0, rel=0.01)
    assert all(float(bar.attrib["x"]) + float(bar.attrib["width"]) < width for bar in bars)


def test_same_figures_give_the_same_octets() -> None:
    assert plot("A", "b", ROWS, PANELS) == plot("A", "b", ROWS, PANELS)


@pytest.mark.parametrize(("most", "above"), [(0.0, 1.0), (4200.0, 5000.0), (5000.0, 5000.0), (0.3, 0.3)])
def test_scale_ends_at_a_round_number(most: float, above: float) -> None:
    assert nice_above(most) == pytest.approx(above)
