"""Commands that the server refuses, or that come to nothing: what is printed, and the exit code."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from mta.cli.main import main
from tests.support.control_server import ControlServer, run_mta


def test_a_failure_keeps_its_form(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    refused = {"ok": False, "error": "no <queue> matches"}
    code, printed, _ = run_mta(
        tmp_path, capsys, "--xml", "pause", "queue", "x", answers={"queue.pause": refused}
    )

    assert code == 65
    assert "<rsp><data></data><fail>no &lt;queue&gt; matches</fail></rsp>" in printed


def refused_reload(tmp_path: Path, capsys: pytest.CaptureFixture[str], error: str) -> tuple[int, str]:
    """What a reload says, and leaves with, that is refused with this error and the problem behind it."""
    problem = {"file": "/c", "line": 3, "severity": "error", "text": "unknown directive x", "hint": "y?"}
    refused = {"ok": False, "error": error, "problems": [problem]}
    return run_mta(tmp_path, capsys, "reload", answers={"reload": refused})[:2]


def test_a_reload_with_errors_says_why_and_exits_with_78(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, printed = refused_reload(tmp_path, capsys, "the old configuration stays in force")

    assert code == 78
    assert "mta: the old configuration stays in force" in printed
    assert "/c:3: error: unknown directive x (y?)" in printed


def test_what_is_wrong_with_a_configuration_is_printed_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _, printed = refused_reload(tmp_path, capsys, "/c:3: error: unknown directive x (y?)")

    assert printed.count("unknown directive x") == 1
    assert "mta: the configuration has errors" in printed


@pytest.mark.parametrize(
    ("words", "command", "hint"),
    [
        (["pause", "queue", "a.b"], "queue.pause", True),
        (["schedule", "a.b"], "queue.schedule", True),
        (["set", "queue", "--mode=normal", "a.b"], "queue.mode", True),
        (["resume", "queue", "a.b/*"], "queue.resume", False),
    ],
)
def test_a_domain_alone_that_matches_nothing_is_told_what_it_stands_for(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], words: list[str], command: str, hint: bool
) -> None:
    code, printed, _ = run_mta(tmp_path, capsys, *words, answers={command: {"queues": 0, "total": 0}})

    assert code == 0
    assert ("a.b is short for a.b/{default}; write 'a.b/*'" in printed) is hint


def test_a_refused_command_prints_the_servers_reason_and_hint(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    refused = {"ok": False, "error": "no queue matches", "hint": "mta show queues"}

    code, printed, _ = run_mta(tmp_path, capsys, "pause", "queue", "x", answers={"queue.pause": refused})

    assert code == 65
    assert "mta: no queue matches" in printed
    assert "mta show queues" in printed


def test_delete_wants_a_filter(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, printed, requests = run_mta(tmp_path, capsys, "delete", "--envId=e", answers={})

    assert code == 64
    assert requests == []
    assert "at least one of" in printed


def test_a_trace_that_delivers_nothing_is_a_temporary_failure(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    answer = {"lines": [], "result": "451 later", "delivered": False}

    assert run_mta(tmp_path, capsys, "trace", "a/b", answers={"trace": answer})[0] == 75


@pytest.mark.parametrize(
    ("route", "error", "code", "said"),
    [
        ([{"host": "127.0.0.1", "ip": "127.0.0.1", "port": 25, "pref": 0}], "", 0, "waits in x.queue/v1"),
        ([], "example.com does not exist", 69, "No mail can be sent"),
    ],
)
def test_resolve_succeeds_when_mail_can_go_somewhere_whatever_the_dns_knows(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    route: list[dict[str, Any]],
    error: str,
    code: int,
    said: str,
) -> None:
    data = {
        "status": "does not exist",
        "queue": "x.queue/v1",
        "host": [],
        "route": route,
        "routeError": error,
    }
    with ControlServer(tmp_path / "s", {"resolve": data}) as server:
        assert main(["--socket", str(tmp_path / "s"), "resolve", "example.com/v1"]) == code

    assert server.requests == [{"command": "resolve", "domain": "example.com/v1"}]
    assert said in capsys.readouterr().out
