"""The harness of the micro benchmarks: every benchmark runs, figures are per operation."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import pytest

from benchmarks.micro.__main__ import main
from benchmarks.micro.harness import Bench, Work, collect, measure, modules, table


def test_benchmarks_are_found_by_word_and_carry_their_docstring() -> None:
    module = ModuleType("benchmarks.micro.bench_sample")

    def bench_one() -> Callable[[], object]:
        """the first

        More text.
        """
        return int

    module.bench_one = bench_one  # type: ignore[attr-defined]
    module.helper = bench_one  # type: ignore[attr-defined]

    (bench,) = collect([module])

    assert (bench.name, bench.about) == ("sample.one", "the first")
    assert collect([module], ["other"]) == []
    assert collect([module], ["other", "sample"]) == [bench]


def test_a_figure_is_for_one_operation_of_a_call() -> None:
    one = measure(Bench("x", "", lambda: lambda: sum(range(10_000))), seconds=0.02)
    many = measure(Bench("x", "", lambda: Work(lambda: sum(range(10_000)), operations=1000)), seconds=0.02)

    assert many.median < one.median / 100
    assert one.best <= one.median
    assert one.spread >= 0


def test_a_generator_is_resumed_once_for_cleaning_up() -> None:
    steps: list[str] = []

    def prepare() -> Iterator[Callable[[], object]]:
        steps.append("prepared")
        yield int
        steps.append("cleaned up")

    measure(Bench("x", "", prepare), seconds=0.001, repeats=1)  # type: ignore[arg-type]

    assert steps == ["prepared", "cleaned up"]


@pytest.mark.parametrize("bench", collect(modules()), ids=lambda bench: bench.name)
def test_every_benchmark_runs(bench: Bench) -> None:
    figure = measure(bench, seconds=0.0, repeats=1)

    assert figure.median > 0
    assert bench.about


def test_the_table_has_a_line_for_each_figure() -> None:
    figure = measure(Bench("group.name", "about it", lambda: int), seconds=0.001, repeats=1)

    lines = list(table([figure]))

    assert len(lines) == 2
    assert lines[1].startswith("group.name ")
    assert lines[1].endswith(" about it")


def test_figures_go_to_a_file_with_the_commit(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "figures.json"

    assert main(["headers.find_end", "--seconds", "0.001", "--json", str(path)]) == 0

    written = json.loads(path.read_text())
    assert [figure["name"] for figure in written["figures"]] == ["headers.find_end"]
    assert "commit" in written
    assert "headers.find_end" in capsys.readouterr().out


def test_an_unknown_name_is_an_error() -> None:
    assert main(["no-such-benchmark"]) == 1


def test_names_are_listed_without_measuring(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--list", "headers."]) == 0

    assert len(capsys.readouterr().out.splitlines()) == 6
