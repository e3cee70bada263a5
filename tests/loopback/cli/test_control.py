"""The verbs of the control socket, against a socket with fixed answers."""

from __future__ import annotations

import json
import socket
from pathlib import Path
from typing import Any

import pytest

from mta.cli.control import ControlFailure, Unreachable, ask
from mta.cli.main import main
from tests.support.control_server import ControlServer

QUEUE = {
    "name": "example.com/v1",
    "rcp": 12,
    "kb": 120,
    "conn": 2,
    "paused": True,
    "mode": "backoff",
    "state": "paused",
    "retryTime": 0,
    "reason": "Paused by the operator until it is resumed.",
    "event": [{"type": "error", "time": 1700000000, "text": "421 too many connections"}],
}

STATUS = {
    "status": "running",
    "version": "1.2",
    "pid": 42,
    "hostName": "mail.example.com",
    "timeNow": 1700003600.0,
    "startupTime": 1700000000.0,
    "epoch": 3,
    "configFile": "/etc/mta/mta.conf",
    "traffic": {"total": {"in": {"rcp": 7, "msg": 5, "kb": 50}, "out": {"rcp": 6, "msg": 4, "kb": 40}}},
    "conn": {"smtpIn": {"cur": 1, "top": 9, "max": 100}, "smtpOut": {"cur": 2, "top": 8, "max": 0}},
    "resolver": {"namesCached": 3, "queriesPending": 0},
    "queue": {"smtp": {"rcp": 12, "dom": 1, "kb": 120}},
    "spool": {
        "dirs": [{"path": "/var/spool/mta", "free": 5 << 30, "totalRcp": 12, "segments": 2, "broken": ""}]
    },
}

ANSWERS: dict[str, Any] = {
    "show.status": STATUS,
    "show.queues": {"queue": [QUEUE], "totalRcp": 12, "totalQueues": 1, "totalQueuesWithRcp": 1},
    "show.topqueues": {"queue": [], "totalRcp": 0, "totalQueues": 0},
    "show.vmtas": {
        "vmta": [{"name": "v1", "dom": 1, "rcp": 12, "kb": 120, "conn": 2, "sources": ["192.0.2.1"]}]
    }
    | {"totalRcp": 24},
    "show.domains": {"domain": [{"name": "example.com", "rcp": 12, "kb": 1, "conn": 2}], "totalDomains": 1},
    "show.jobs": {"job": [{"id": "j1", "rcp": 12, "kb": 1}], "totalJobs": 1},
    "show.version": {"name": "mta", "version": "1.2", "python": "3.11.7"},
    "show.workers": {
        "worker": [{"id": "0", "pid": 43, "state": "ready", "startupTime": 1700000000, "cpus": [0]}]
    },
    "list": {
        "rcpt": [{"queueId": "q1", "orig": "", "rcpt": "a@example.com", "queue": "example.com/v1"}],
        "total": 3,
    },
    "why": {"text": "Nothing waits."},
    "queue.pause": {"queues": 2},
    "queue.resume": {"queues": 1},
    "queue.mode": {"queues": 1},
    "queue.schedule": {"queues": 154, "total": 3888},
    "delete": {"rcp": 5, "msg": 4},
    "trace": {"lines": [{"time": 1700000000, "text": "> EHLO x"}], "result": "250 ok", "delivered": True},
    "reload": {"epoch": 4, "problems": []},
    "rotate": {"files": ["acct-2026-01-01-0000.csv"]},
    "reset.counters": {},
    "clear.dnscache": {"names": 3},
}


def run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], *arguments: str, answers: dict[str, Any] | None = None
) -> tuple[int, str, list[dict[str, Any]]]:
    """One call of the command: its exit code, all it printed, what it asked."""
    path = tmp_path / "control.sock"
    with ControlServer(path, ANSWERS | (answers or {})) as server:
        code = main(["--socket", str(path), *arguments])
    printed = capsys.readouterr()
    return code, printed.out + printed.err, server.requests


@pytest.mark.parametrize(
    ("arguments", "request_", "text"),
    [
        (["reload"], {"command": "reload"}, "Configuration reloaded."),
        (["show", "version"], {"command": "show.version"}, "mta 1.2 (python 3.11.7)"),
        (["show", "topqueues"], {"command": "show.topqueues", "maxitems": 20}, "0 of 0 queues shown"),
        (
            ["show", "queues", "--paused=no", "--mode=backoff", "--errors", "*.com/v1"],
            {
                "command": "show.queues",
                "domain": "*.com",
                "vmta": "v1",
                "maxitems": 20,
                "paused": False,
                "mode": "backoff",
                "errors": True,
            },
            "421 too many connections",
        ),
        (["show", "vmtas"], {"command": "show.vmtas"}, "1 virtual MTA, 24 recipients."),
        (
            ["show", "domains", "example.com"],
            {"command": "show.domains", "domain": "example.com", "maxitems": 20},
            "1 of",
        ),
        (["show", "jobs"], {"command": "show.jobs", "maxitems": 20}, "j1"),
        (["show", "workers"], {"command": "show.workers"}, "1 running."),
        (["why", "example.com/v1"], {"command": "why", "queue": "example.com/v1"}, "Nothing waits."),
        (["pause", "queue", "*/v1"], {"command": "queue.pause", "pattern": "*/v1"}, "2 queues paused."),
        (["resume", "queue", "a/b"], {"command": "queue.resume", "pattern": "a/b"}, "1 queue resumed."),
        (
            ["set", "queue", "--mode=normal", "a/b"],
            {"command": "queue.mode", "pattern": "a/b", "mode": "normal"},
            "1 queue set to normal.",
        ),
        (
            ["schedule", "--retry-recipients", "a/b"],
            {"command": "queue.schedule", "pattern": "a/b", "retryRecipients": True},
            "154 of 3888 matching queues scheduled.",
        ),
        (
            ["list", "--queue=a/b", "--rcpt=*@a", "--orig=x@y", "--jobId=j", "--envId=e", "--maxitems=5"],
            {
                "command": "list",
                "queue": "a/b",
                "rcpt": "*@a",
                "orig": "x@y",
                "jobId": "j",
                "envId": "e",
                "maxitems": 5,
            },
            "1 of 3 recipients shown.",
        ),
        (
            ["delete", "--queue=a/b", "--dry-run"],
            {"command": "delete", "queue": "a/b", "dryRun": True},
            "5 recipients of 4 messages would be deleted.",
        ),
        (
            ["delete", "--job-id=j"],
            {"command": "delete", "jobId": "j"},
            "5 recipients of 4 messages deleted.",
        ),
        (["trace", "a/b"], {"command": "trace", "queue": "a/b"}, "> EHLO x"),
        (["rotate", "acct"], {"command": "rotate", "what": "acct"}, "acct-2026-01-01-0000.csv"),
        (["rotate", "acct", "a.csv"], {"command": "rotate", "what": "acct", "file": "a.csv"}, "rotated."),
        (["reset", "counters"], {"command": "reset.counters"}, "Traffic counters reset."),
        (["clear", "dnscache", "a.b"], {"command": "clear.dnscache", "domain": "a.b"}, "DNS cache cleared."),
    ],
)
def test_a_verb_asks_the_server_and_says_what_came_of_it(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    request_: dict[str, Any],
    text: str,
) -> None:
    code, printed, requests = run(tmp_path, capsys, *arguments)

    assert code == 0, printed
    assert requests == [request_]
    assert text in printed


def test_status_shows_traffic_connections_spool_and_uptime(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, printed, _ = run(tmp_path, capsys, "show", "status")

    assert code == 0
    lines = [line.split() for line in printed.splitlines()]
    assert ["Total", "7", "5", "50", "6", "4", "40"] in lines
    assert ["Last", "Hour", "0", "0", "0", "0", "0", "0"] in lines
    assert ["Inbound", "1", "9", "100"] in lines
    assert ["Outbound", "2", "8", "unlimited"] in lines
    assert "Spool /var/spool/mta  12 recipients, 2 segments, 5.0G free" in printed
    assert "0 01:00:00" in printed


def test_monitors_find_names_first_and_recipients_third_between_two_lines(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _, printed, _ = run(tmp_path, capsys, "show", "vmtas")

    rows = printed.splitlines()[2:-2]
    assert [(row.split()[0], row.split()[2], row.split()[3]) for row in rows] == [("v1", "12", "50.0")]


def test_a_queue_shows_its_letters_and_its_reason(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _, printed, _ = run(tmp_path, capsys, "show", "queues", "example.com/v1")

    assert printed.splitlines()[2].split()[:5] == ["example.com/v1", "12", "120", "2", "PB"]
    assert "example.com/v1: Paused by the operator until it is resumed." in printed


@pytest.mark.parametrize("arguments", [["--json", "show", "queues"], ["show", "queues", "--json"]])
def test_json_is_the_servers_data_in_powermtas_envelope(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str]
) -> None:
    code, printed, _ = run(tmp_path, capsys, *arguments)

    assert code == 0
    assert json.loads(printed) == {"data": ANSWERS["show.queues"], "status": "success", "message": ""}


def test_a_reload_with_errors_says_why_and_exits_with_78(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    problem = {"file": "/c", "line": 3, "severity": "error", "text": "unknown directive x", "hint": "y?"}
    refused = {"ok": False, "error": "the old configuration stays in force", "problems": [problem]}

    code, printed, _ = run(tmp_path, capsys, "reload", answers={"reload": refused})

    assert code == 78
    assert "mta: the old configuration stays in force" in printed
    assert "/c:3: error: unknown directive x (y?)" in printed


def test_a_refused_command_prints_the_servers_reason_and_hint(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    refused = {"ok": False, "error": "no queue matches", "hint": "mta show queues"}

    code, printed, _ = run(tmp_path, capsys, "pause", "queue", "x", answers={"queue.pause": refused})

    assert code == 65
    assert "mta: no queue matches" in printed
    assert "mta show queues" in printed


def test_delete_wants_a_filter(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, printed, requests = run(tmp_path, capsys, "delete", "--envId=e")

    assert code == 64
    assert requests == []
    assert "at least one of" in printed


def test_a_trace_that_delivers_nothing_is_a_temporary_failure(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    answer = {"lines": [], "result": "451 later", "delivered": False}

    assert run(tmp_path, capsys, "trace", "a/b", answers={"trace": answer})[0] == 75


def test_the_socket_is_found_through_a_configuration_with_errors(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = tmp_path / "mta.conf"
    config.write_text("control-socket ctl\nnonsense\n")
    with ControlServer(tmp_path / "ctl", ANSWERS):
        assert main(["-c", str(config), "show", "version"]) == 0

    assert "mta 1.2" in capsys.readouterr().out


def test_no_socket_means_no_server(tmp_path: Path) -> None:
    with pytest.raises(Unreachable, match="no server is running") as caught:
        ask(tmp_path / "none", "show.status")
    assert caught.value.code == 69


def test_a_left_over_socket_means_no_server_either(tmp_path: Path) -> None:
    path = tmp_path / "old"
    with socket.socket(socket.AF_UNIX) as left_over:
        left_over.bind(str(path))

    with pytest.raises(Unreachable, match="no server listens") as caught:
        ask(path, "show.status")
    assert caught.value.code == 69


@pytest.mark.parametrize("answer", [b"not json\n", b"[]\n", b"{}\n"])
def test_an_answer_that_is_none_is_reported(tmp_path: Path, answer: bytes) -> None:
    with ControlServer(tmp_path / "s", {"x": answer}), pytest.raises(ControlFailure, match="can't be read"):
        ask(tmp_path / "s", "x")


def test_a_server_that_hangs_up_is_a_temporary_failure(tmp_path: Path) -> None:
    with ControlServer(tmp_path / "s", {"x": b'{"ok": tr'}), pytest.raises(Unreachable) as caught:
        ask(tmp_path / "s", "x")
    assert caught.value.code == 75
