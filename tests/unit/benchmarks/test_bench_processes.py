"""Processes on the bench, and what the configuration of our server says for each contestant."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from benchmarks.postfix import tuned
from benchmarks.processes import (
    BenchError,
    cpu_by_name,
    cpu_of_tree,
    free_port,
    is_greeting,
    memory_of_tree,
    start,
    stop,
    tree,
    wait_for,
)
from benchmarks.scenarios import Contest, Dkim, Entry, contests
from benchmarks.servers import configuration
from benchmarks.source import domain_of, message_of
from mta.config.load import load

CONTESTS = contests(cpus=2, has_tools=True, peers=(), short=False)


def test_processes_are_started_watched_and_ended(tmp_path: Path) -> None:
    process = start(["sh", "-c", "sleep 600 & wait"], output=tmp_path / "log")
    # A child is there before it is the program that it is to be.
    wait_for(lambda: "sleep" in cpu_by_name(process.pid), "a child")

    assert len(tree(process.pid)) == 2
    assert cpu_of_tree(process.pid).total >= 0.0
    assert memory_of_tree(process.pid) > 0
    os.killpg(process.pid, 15)
    stop(process)
    assert process.poll() is not None


def test_waiting_ends_with_a_reason() -> None:
    with pytest.raises(BenchError, match="the moon: not within 0 s"):
        wait_for(lambda: False, "the moon", patience=0.0)


def test_nobody_greets_on_a_free_port() -> None:
    assert not is_greeting(free_port())


@pytest.mark.parametrize("size", [1024, 10_240, 102_400])
def test_generated_message_has_about_the_size_asked_for(size: int) -> None:
    message = message_of(size)

    assert abs(len(message) - size) < 100
    assert message.endswith(b"\r\n.\r\n")


def test_half_of_the_domains_belong_to_the_second_of_two_workers() -> None:
    domains = [domain_of(number) for number in range(40)]

    assert len(set(domains)) == 40
    assert sum(domain.endswith(".b.bench.example") for domain in domains) == 20


@pytest.mark.parametrize(
    ("contest", "entry"),
    [(contest, entry) for contest in CONTESTS for entry in contest.entries],
    ids=[contest.name(entry) for contest in CONTESTS for entry in contest.entries],
)
def test_configuration_of_every_contestant_is_valid(contest: Contest, entry: Entry, tmp_path: Path) -> None:
    text = configuration(contest.shape, entry, tmp_path).replace("@PORT@", "2525").replace("@SINK@", "2526")
    path = tmp_path / "mta.conf"
    path.write_text(text)

    loaded = load(path, epoch=1)

    assert loaded.snapshot is not None, loaded.problems
    assert len(loaded.snapshot.workers) == (entry.workers if entry.is_pinned else 0)
    assert (tmp_path / "dkim.pem").exists() == (entry.dkim is not Dkim.OFF)


def test_tuned_peer_has_a_process_for_every_session_and_connection() -> None:
    assert int(tuned(100, 20)["default_process_limit"]) >= 2 * 100
    assert int(tuned(50, 300)["default_process_limit"]) >= 300


def test_nothing_waits_for_the_disk_where_sync_is_off(tmp_path: Path) -> None:
    environment = os.environ | {
        "PYTHONPATH": str(Path(sys.modules[start.__module__].__file__ or "").parent / "unsynced")
    }
    command = [sys.executable, "-c", "import os; os.fdatasync(-1); os.fsync(-1); print('not called')"]

    process = start(command, output=tmp_path / "log", environment=environment)

    assert process.wait(30) == 0, (tmp_path / "log").read_text()
