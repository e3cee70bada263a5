"""docs/benchmarks.md: the part between the markers, and its plots, made from result files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from benchmarks.coldstart import ColdFigures
from benchmarks.measure import Figures
from benchmarks.plot import Bar, Panel, plot
from benchmarks.processes import BUSY
from benchmarks.report import COLUMNS, Results, best_peer, cells, cold_cells
from benchmarks.scenarios import GROUPS, Kind, Server
from benchmarks.verdicts import Verdict, shares

__all__ = ["BEGIN", "END", "PAGE", "section", "with_section", "write_page"]

PAGE = Path(__file__).parents[1] / "docs" / "benchmarks.md"
BEGIN = "<!-- what follows is written by `python -m benchmarks --report` -->"
LIMIT_COLUMNS = ("", "limit", "measured", "", "how")
END = "<!-- end of what is written -->"


def write_page(results: Results, page: Path = PAGE) -> Path:
    """Replace the results in the page and its plots beside it."""
    plots = page.with_suffix("")
    plots.mkdir(exist_ok=True)
    for group in GROUPS:
        if drawn := draw(group, results):
            (plots / f"{group}.svg").write_text(drawn, encoding="utf-8")
    page.write_text(
        with_section(page.read_text(encoding="utf-8"), section(results, plots.name)), encoding="utf-8"
    )
    return page


def with_section(page: str, section_: str) -> str:
    """The page with what is between the markers replaced. ValueError without them."""
    before, begin, rest = page.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"the page lacks the markers {BEGIN} and {END}")
    return f"{before}{BEGIN}\n\n{section_}\n{END}{after}"


def section(results: Results, plots: str) -> str:
    """Conditions, limits, and a plot and a table of each group that was measured."""
    parts = [said_conditions(results), limits(results.verdicts(), results.yardsticks())]
    for group, (title, about) in GROUPS.items():
        figures = [one for one in results.figures if one.shape.group == group]
        cold = results.cold if group == "coldstart" else []
        if figures or cold:
            parts.append(f"### {title}\n\n{about}\n\n![{title}]({plots}/{group}.svg)\n")
            parts.append(cold_markdown(cold) if cold else figures_markdown(figures))
        if group == "workers" and figures:
            parts.append(bottlenecks(figures))
    if results.origins:
        parts.append(origins(results))
    return "\n".join(parts)


def said_conditions(results: Results) -> str:
    told = results.conditions
    machine = f"{told.get('cpus')} processors ({told.get('cpu')}), {told.get('memory_gib')} GiB"
    python = f"Python {told.get('python')}"
    if told.get("python_build"):  # older results don't have it
        python += f" ({told['python_build']})"
    system = f"Linux {told.get('kernel')}, {told.get('file_system')}, {python}"
    names = {"postfix": "Postfix", "exim": "Exim", "opensmtpd": "OpenSMTPD", "haraka": "Haraka"}
    peer = "".join(f", {name} {told[key]}" for key, name in names.items() if told.get(key))
    days, commit = str(told.get("date", ""))[:10], f"commit {told.get('commit', '?')}"
    return f"Measured until {days}, {commit}, on {machine}, {system}{peer}.\n"


def limits(found: Sequence[Verdict], yardsticks: Sequence[str]) -> str:
    lines = [
        "### Limits that we hold ourselves to\n",
        *(f"{line}\n" for line in yardsticks),
        *markdown_head(("", "limit", "measured", "", "how"), 1),
    ]
    for verdict in found:
        least = "at most" if verdict.is_most else "at least"
        kept = "kept" if verdict.is_kept else "**missed**"
        sum_ = verdict.sum.replace("|", "and")
        lines.append(
            f"| {verdict.text} | {least} {verdict.limit:,.4g} | {verdict.value:,.2f} | {kept} | {sum_} |"
        )
    return "\n".join(lines) + "\n"


def markdown_head(names: Sequence[str], left: int) -> list[str]:
    marks = ["---"] * left + ["---:"] * (len(names) - left)
    return [f"| {' | '.join(names)} |", f"| {' | '.join(marks)} |"]


def figures_markdown(figures: Sequence[Figures]) -> str:
    lines = markdown_head(("scenario", *COLUMNS), 1)
    lines += [f"| {' | '.join((short_name(one), *cells(one, figures)))} |" for one in figures]
    return "\n".join(lines) + "\n"


def short_name(one: Figures) -> str:
    return f"{one.shape.name}, {one.entry.label}"


def bottlenecks(figures: Sequence[Figures]) -> str:
    lines = ["Processors that each process kept busy while the clock ran (run with the median rate):\n"]
    lines += markdown_head(("scenario", "processors"), 2)
    lines += [f"| {short_name(one)} | {shares(one)} |" for one in figures if one.runs]
    return "\n".join(lines) + "\n"


def origins(results: Results) -> str:
    """Which session each shape is from, and whether the machine was quiet."""
    runs: dict[str, int] = {}
    for one in results.figures:
        name = f"{one.shape.group}/{one.shape.name}"
        runs[name] = min(len(one.runs), runs.get(name, len(one.runs)))
    runs |= {f"coldstart/{one.recipients:,}": len(one.runs) for one in results.cold}
    lines = [
        "### Where the figures come from\n",
        *markdown_head(("shape", "measured", "commit", "runs", "busy"), 3),
    ]
    for name, (when, commit, busy) in results.origins.items():
        share = f"{busy:.0%}" if busy <= BUSY else f"**{busy:.0%}: not quiet**"
        lines.append(f"| {name} | {when} | {commit} | {runs.get(name, 0)} | {share} |")
    return "\n".join(lines) + "\n"


def cold_markdown(cold: Sequence[ColdFigures]) -> str:
    names = (
        "recipients",
        "runs",
        "greeting s",
        "first delivery s",
        "all read s",
        "octets each",
        "peak MiB",
        "drain/s",
    )
    lines = markdown_head(names, 1)
    lines += [f"| {' | '.join((f'{one.recipients:,}', *cold_cells(one)))} |" for one in cold]
    return "\n".join(lines) + "\n"


def draw(group: str, results: Results) -> str:
    """The plot of a group, or "" when nothing of it was measured."""
    title, about = GROUPS[group]
    if group == "coldstart":
        return draw_cold(title, about, results.cold)
    figures = [one for one in results.figures if one.shape.group == group and one.runs]
    if not figures:
        return ""
    rows, rates, costs = [], list[Bar | None](), list[Bar | None]()
    for one in figures:
        heading = one.shape.name
        if one.shape.kind is Kind.BACKLOG and group == "backlog":
            rows.append((heading, f"{one.entry.label} accept", "peer" if is_peer(one) else "second"))
            rates.append(Bar(one.median("accept_rate"), *one.spread("accept_rate")))
            costs.append(None)
        rows.append((heading, one.entry.label, colour(one, figures)))
        peer = best_peer(one, figures)
        times = f"{one.median('rate') / peer:.1f} x" if peer and not is_peer(one) else ""
        rates.append(Bar(one.median("rate"), *one.spread("rate"), times))
        costs.append(Bar(one.median("cpu_us"), *one.spread("cpu_us")))
    panels = Panel("messages a second", rates), Panel("CPU µs a message, all processes of the server", costs)
    return plot(title, about, rows, panels)


def is_peer(one: Figures) -> bool:
    return one.entry.server is not Server.MTA


def colour(one: Figures, figures: Sequence[Figures]) -> str:
    if is_peer(one):
        return "peer"
    first = next(other for other in figures if other.shape == one.shape)
    return "ours" if one is first or one.entry.label.startswith("mta") else "second"


def draw_cold(title: str, about: str, cold: Sequence[ColdFigures]) -> str:
    if not any(one.runs for one in cold):
        return ""
    rows, bars = [], list[Bar | None]()
    for one in cold:
        for name, label in (("greeting", "greeting"), ("first", "first delivery"), ("loaded", "all read")):
            values = [getattr(run, name) for run in one.runs]
            rows.append((f"{one.recipients:,}", label, "ours" if name == "first" else "second"))
            bars.append(Bar(one.median(name), min(values), max(values)))
    return plot(title, about, rows, [Panel("seconds from the start of the program", bars)])
