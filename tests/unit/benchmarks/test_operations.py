"""How byte-code operations are counted and compared."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Iterator

import pytest

from benchmarks.operations import Cost, FunctionCost, Tally, as_json, growth, module_of, report, show


@pytest.fixture(autouse=True)
def _tracer_of_whoever_runs_us() -> Iterator[None]:
    before = sys.gettrace()
    yield
    sys.settrace(before)


def work(times: int) -> int:
    found = 0
    for number in range(times):
        found += number
    return found


def counted(times: int) -> Cost:
    tally = Tally()
    tally.set()
    work(times)
    tally.unset()
    return tally.cost(1)


def of_work(cost: Cost) -> FunctionCost:
    (found,) = (one for one in cost.functions if one.name == "work")
    return found


def test_count_is_the_same_each_time_and_grows_with_the_work() -> None:
    first, second, more = of_work(counted(10)), of_work(counted(10)), of_work(counted(20))

    assert first == second
    assert more.operations > 1.5 * first.operations
    assert first.calls == more.calls == 1


def test_threads_that_begin_later_are_counted_too() -> None:
    tally = Tally()
    tally.set()
    thread = threading.Thread(target=work, args=(10,))
    thread.start()
    thread.join(5.0)
    tally.unset()

    assert of_work(tally.cost(1)) == of_work(counted(10))


def test_what_came_before_the_warm_end_is_forgotten() -> None:
    tally = Tally()
    tally.set()
    work(1000)
    tally.clear()
    work(10)
    tally.unset()

    assert of_work(tally.cost(2)).operations == of_work(counted(10)).operations / 2


def test_files_left_out_are_not_counted() -> None:
    tally = Tally(without=[__file__])
    tally.set()
    work(10)
    tally.unset()

    assert all(one.name != "work" for one in tally.cost(1).functions)


def test_modules_are_named_whoever_they_are_of() -> None:
    assert module_of(counted.__code__.co_filename) == "tests.unit.benchmarks.test_operations"
    assert module_of(threading.__file__) == "threading"
    assert module_of(pytest.__file__) == "pytest.__init__"
    assert module_of("<string>") == "<string>"


COST = Cost(
    (
        FunctionCost("mta.spool.commit", "Committer.take", 7, 60.0, 1.0),
        FunctionCost("mta.spool.index", "Index.settle", 9, 30.0, 2.0),
        FunctionCost("mta.clock", "now", 3, 10.0, 4.0),
    )
)


def test_costs_are_summed_by_package_and_by_module() -> None:
    assert COST.by(2) == {"mta.spool": (90.0, 3.0), "mta.clock": (10.0, 4.0)}
    assert list(COST.by(None)) == ["mta.spool.commit", "mta.spool.index", "mta.clock"]


def test_report_has_the_sum_and_the_dearest_of_each_kind() -> None:
    lines = report(COST, 1)

    assert lines[0] == "100 operations and 7 calls a message"
    assert "      90.0  90.0%    3.00  mta.spool" in lines
    assert "      60.0  60.0%    1.00  mta.spool.commit:7 Committer.take" in lines
    assert not any("mta.clock" in line for line in lines)


def test_modules_that_grew_are_named_first() -> None:
    now = Cost((FunctionCost("mta.spool.commit", "x", 1, 90.0, 1.0), FunctionCost("new", "x", 1, 12.0, 1.0)))

    assert growth(as_json(COST, {}, 0), as_json(now, {}, 0)) == [
        "      +2.0  together: 100.0 before, 102.0 now",
        "     +30.0  mta.spool.commit",
        "     +12.0  new",
        "     -10.0  mta.clock",
        "     -30.0  mta.spool.index",
    ]


def test_reader_that_has_seen_enough_is_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "w") as output:
        monkeypatch.setattr(sys, "stdout", output)
        show(["more than a pipe holds"] * 100_000)
        monkeypatch.undo()
    # leaving the `with` has written what was left in the buffer, as the interpreter does at exit
