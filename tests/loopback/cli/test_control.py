"""The verbs of the control socket, against a socket with fixed answers."""

from __future__ import annotations

import json
import re
import time
from pathlib import Path
from typing import Any

import pytest

from mta.cli.main import main
from mta.cli.output import moment
from mta.cli.trees import Machine
from tests.support.control_server import ControlServer, run_mta
from tests.support.golden import assert_golden

MACHINE = Machine("Linux", "6.1", "#1", "x86_64", 2, 4096)

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

WORKER: dict[str, Any] = {
    "id": "worker-0",
    "pid": 43,
    "state": "running",
    "startupTime": 1700000000,
    "restarts": 1,
    "role": "both",
    "domains": ["gmail.com", "*.example.org"],
    "cpus": [0],
    "cpuShare": 0.512,
    "cpu": 1234.5,
    "rss": 83886080,
    "lag": 0.0004,
    "lagP99": 0.0123,
    "lagMax": 0.08,
    "queues": 17,
    "rcp": 120000,
    "connIn": 3,
    "connOut": 20,
    "handedOver": 5,
    "held": 0,
    "adopted": 0,
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
        "timeNow": 1700003600,
        "worker": [
            WORKER,
            {"id": "events", "pid": 44, "state": "running", "startupTime": 1700000000, "restarts": 0}
            | {"role": "", "domains": [], "cpus": [0, 1], "cpuShare": 0.02, "rss": 31457280}
            | {"lag": 0.0001, "lagP99": 0.002, "lagMax": 0.01},
        ],
    },
    "list": {
        "rcpt": [{"queueId": "q1", "orig": "", "rcpt": "a@example.com", "queue": "example.com/v1"}],
        "total": 3,
    },
    "show.precache": {
        "domain": [{"name": "example.com", "status": "found", "hosts": 1, "ips": 2, "time": 1700000000}],
        "totalDomains": 1,
    },
    "show.disabledsources": {"source": [{"ip": "192.0.2.1", "queue": "*/v1", "until": 0}]},
    "source.disable": {"queues": 2},
    "source.enable": {"queues": 1},
    "job.pause": {"jobs": 1, "rcp": 12},
    "job.resume": {"jobs": 1, "rcp": 12},
    "resolve": {
        "status": "success",
        "host": [{"pref": 10, "name": "mx.example.com", "ip": ["192.0.2.9", "2001:db8::9"]}],
        "route": [{"host": "mx.example.com", "ip": "192.0.2.9", "port": 25, "pref": 0}],
        "routeError": "",
        "connect": [
            {"host": "mx.example.com", "ip": "192.0.2.9", "port": 25, "result": "ready for mail", "lines": []}
        ],
    },
    "why": {"text": "Nothing waits."},
    "queue.pause": {"queues": 2},
    "queue.resume": {"queues": 1},
    "queue.mode": {"queues": 1},
    "queue.schedule": {"queues": 154, "total": 3888},
    "set.priority": {"rcp": 5, "total": 7},
    "delete": {"rcp": 5, "msg": 4},
    "undo.delete": {"rcp": 3},
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
    return run_mta(tmp_path, capsys, *arguments, answers=ANSWERS | (answers or {}))


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
                "sort": "name",
                "paused": False,
                "mode": "backoff",
                "errors": True,
            },
            "421 too many connections",
        ),
        (["show", "vmtas"], {"command": "show.vmtas"}, "1 virtual MTA, 24 recipients."),
        (
            ["show", "domains", "example.com"],
            {"command": "show.domains", "domain": "example.com", "maxitems": 20, "sort": "name"},
            "1 of",
        ),
        (
            ["show", "topdomains", "--vmta=v1"],
            {"command": "show.domains", "maxitems": 20, "vmta": "v1"},
            "1 of 1 domains shown.",
        ),
        (["show", "precache"], {"command": "show.precache"}, "1 precached domain."),
        (
            ["show", "disabled", "sources", "example.com"],
            {"command": "show.disabledsources", "queue": "example.com"},
            "192.0.2.1  */v1   by hand",
        ),
        (
            ["disable", "source", "--reenable-after=1h", "192.0.2.1", "example.com"],
            {
                "command": "source.disable",
                "ip": "192.0.2.1",
                "pattern": "example.com/*",
                "reenableAfter": "1h",
            },
            "Source 192.0.2.1 disabled for 2 queues and those to come.",
        ),
        (
            ["enable", "source", "192.0.2.1"],
            {"command": "source.enable", "ip": "192.0.2.1", "pattern": "*/*"},
            "Source 192.0.2.1 enabled for 1 queue.",
        ),
        (
            ["pause", "job", "j1"],
            {"command": "job.pause", "job": "j1"},
            "Job paused: 12 recipients kept back.",
        ),
        (
            ["resume", "job", "j1"],
            {"command": "job.resume", "job": "j1"},
            "Job resumed: 12 recipients may go.",
        ),
        (
            ["pause", "job", "--dry-run", "j1"],
            {"command": "job.pause", "job": "j1", "dryRun": True},
            "12 recipients would be kept back.",
        ),
        (
            ["resume", "job", "--dry-run", "j1"],
            {"command": "job.resume", "job": "j1", "dryRun": True},
            "12 recipients would go.",
        ),
        (
            ["disable", "source", "--dry-run", "192.0.2.1"],
            {"command": "source.disable", "ip": "192.0.2.1", "pattern": "*/*", "dryRun": True},
            "Source 192.0.2.1 would be disabled for 2 queues",
        ),
        (
            ["enable", "source", "--dry-run", "192.0.2.1"],
            {"command": "source.enable", "ip": "192.0.2.1", "pattern": "*/*", "dryRun": True},
            "Source 192.0.2.1 would be enabled for 1 queue.",
        ),
        (
            ["undo", "delete", "--dry-run"],
            {"command": "undo.delete", "dryRun": True},
            "3 recipients would be brought back.",
        ),
        (
            ["resolve", "--server=192.0.2.53", "--tcp", "--dumppackets", "--source=a.b,192.0.2.1", "x.y"],
            {
                "command": "resolve",
                "domain": "x.y",
                "server": "192.0.2.53",
                "tcp": True,
                "dumpPackets": True,
                "sourceIp": "192.0.2.1",
                "hostName": "a.b",
            },
            "10  mx.example.com  192.0.2.9, 2001:db8::9",
        ),
        (["trace", "--to-log", "a/b"], {"command": "trace", "queue": "a/b", "toLog": True}, "250 ok"),
        (
            ["resolve", "--connect", "example.com"],
            {"command": "resolve", "domain": "example.com", "connect": True},
            "10  mx.example.com  192.0.2.9, 2001:db8::9",
        ),
        (
            ["trace", "--log-data", "--log-resolution", "--source-ip=192.0.2.1", "a/b"],
            {
                "command": "trace",
                "queue": "a/b",
                "logData": True,
                "logResolution": True,
                "sourceIp": "192.0.2.1",
            },
            "250 ok",
        ),
        (["show", "jobs"], {"command": "show.jobs", "maxitems": 20}, "j1"),
        (["show", "workers"], {"command": "show.workers"}, "2 running."),
        (["why", "example.com/v1"], {"command": "why", "queue": "example.com/v1"}, "Nothing waits."),
        (
            ["pause", "queue", "*/v1"],
            {"command": "queue.pause", "pattern": "*/v1"},
            "2 queues paused, and those to come.",
        ),
        (["resume", "queue", "a/b"], {"command": "queue.resume", "pattern": "a/b"}, "1 queue resumed."),
        (
            ["set", "queue", "--mode=normal", "a/b"],
            {"command": "queue.mode", "pattern": "a/b", "mode": "normal"},
            "1 queue set to normal.",
        ),
        (
            ["set", "priority", "--jobId=j", "--rcpt=*@a", "80"],
            {"command": "set.priority", "jobId": "j", "rcpt": "*@a", "priority": 80},
            "5 of 7 matching recipients set to priority 80.",
        ),
        (
            ["set", "priority", "--queue=a/b", "--older-than=4h", "--dry-run", "0"],
            {"command": "set.priority", "queue": "a/b", "olderThan": "4h", "priority": 0, "dryRun": True},
            "5 of 7 matching recipients would be set to priority 0.",
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
        (
            ["delete", "--queue=a/b", "--grace=10m"],
            {"command": "delete", "queue": "a/b", "grace": "10m"},
            "`mta undo delete` brings back what was deleted, for 10m from now.",
        ),
        (
            ["delete", "--jobId=j", "--older-than=4h", "--no-accounting", "--dsn"],
            {"command": "delete", "jobId": "j", "olderThan": "4h", "dsn": True, "noAccounting": True},
            "5 recipients of 4 messages deleted.",
        ),
        (["list", "--older-than=1d"], {"command": "list", "olderThan": "1d", "maxitems": 100}, "1 of 3"),
        (["undo", "delete"], {"command": "undo.delete"}, "3 recipients brought back."),
        (
            ["pause", "queue", "--dry-run", "*/v1"],
            {"command": "queue.pause", "pattern": "*/v1", "dryRun": True},
            "2 queues would be paused, and those to come.",
        ),
        (
            ["schedule", "--dry-run", "a/b"],
            {"command": "queue.schedule", "pattern": "a/b", "dryRun": True},
            "154 of 3888 matching queues would be scheduled.",
        ),
        (["trace", "a/b"], {"command": "trace", "queue": "a/b"}, "> EHLO x"),
        (["rotate", "acct"], {"command": "rotate", "what": "acct"}, "acct-2026-01-01-0000.csv"),
        (["rotate", "log"], {"command": "rotate", "what": "log"}, "Logging file rotated."),
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


@pytest.mark.parametrize("wanted", [(), ("--priority",), ("--pause", "--priority", "--schedule")])
def test_list_shows_pauses_priorities_and_schedules_where_they_are_asked_for(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], wanted: tuple[str, ...]
) -> None:
    row = ANSWERS["list"]["rcpt"][0] | {"priority": 80, "paused": True, "schedule": [[1.7e9, 1.7e9 + 60]]}
    _, printed, _ = run(tmp_path, capsys, "list", *wanted, answers={"list": {"rcpt": [row], "total": 1}})

    headings, _, shown, *_ = printed.splitlines()
    assert ("priority" in headings, " 80" in shown) == ("--priority" in wanted,) * 2
    assert ("paused" in headings, " yes " in shown) == ("--pause" in wanted,) * 2
    windows = f"{moment(1.7e9)} / {moment(1.7e9 + 60)}"
    assert ("schedule" in headings, shown.endswith(windows)) == ("--schedule" in wanted,) * 2


@pytest.mark.parametrize("arguments", [["80"], ["--jobId=j", "101"], ["--jobId=j", "high"], ["--jobId=j"]])
def test_a_priority_needs_recipients_and_a_number_up_to_100(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str]
) -> None:
    code, _, requests = run(tmp_path, capsys, "set", "priority", *arguments)

    assert code == 64
    assert requests == []


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
    assert "Uncertain" not in printed


def test_status_names_alarms_first_and_counts_what_is_uncertain(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settled = {"delivered": 6, "deferred": 1, "failed": 2, "expired": 3, "uncertain": 1}
    answers = {"show.status": STATUS | {"alarms": ["spool /s/0 is broken"], "settled": settled}}
    _, printed, _ = run(tmp_path, capsys, "show", "status", answers=answers)

    assert printed.startswith("ALARM: spool /s/0 is broken\n")
    assert "6 delivered, 2 failed, 3 expired" in printed
    assert "Uncertain" in printed


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
def test_json_is_powermtas_tree_in_its_envelope(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str]
) -> None:
    code, printed, _ = run(tmp_path, capsys, *arguments)

    assert code == 0
    answer = json.loads(printed)
    assert (answer["status"], answer["message"]) == ("success", "")
    assert answer["data"]["title"] == "Queues"
    assert answer["data"]["queue"] == [QUEUE]
    assert answer["data"]["totalQueuesWithRcp"] == 1


@pytest.mark.parametrize("form", ["json", "xml", "dom"])
@pytest.mark.parametrize(
    "page", ["status", "topqueues", "queues", "vmtas", "domains", "topdomains", "jobs", "workers"]
)
def test_every_page_keeps_its_shape_for_programs(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    form: str,
    page: str,
) -> None:
    monkeypatch.setattr("mta.cli.show.this_machine", lambda: MACHINE)
    answers = {"show.topqueues": ANSWERS["show.queues"]}
    code, printed, _ = run(tmp_path, capsys, f"--{form}", "show", page, answers=answers)

    assert code == 0
    assert_golden(f"show-{page}.{form}", printed)


@pytest.mark.parametrize("page", ["status", "topqueues", "queues", "vmtas", "domains", "jobs", "workers"])
def test_every_page_keeps_its_shape_for_those_who_parse_text(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, page: str
) -> None:
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    answers = {"show.topqueues": ANSWERS["show.queues"]}
    _, printed, _ = run(tmp_path, capsys, "show", page, answers=answers)

    assert_golden(f"show-{page}.txt", printed)


def test_a_monitor_of_queues_finds_its_fields_in_dom(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The expression of a public monitor for `--dom show topqueues --maxitems=100000 --errors`."""
    answers = {"show.topqueues": ANSWERS["show.queues"]}
    _, printed, requests = run(
        tmp_path, capsys, "--dom", "show", "topqueues", "--maxitems=100000", "--errors", answers=answers
    )

    fields = re.compile(r"queue\[([0-9]+)\]\.([a-zA-Z]+)[\[]?([0-9]{0,})[\]]?[\.]?([a-z]{0,})=\"(.*)\"")
    found = {match.groups()[:4]: match[5] for match in map(fields.match, printed.splitlines()) if match}
    assert requests == [{"command": "show.topqueues", "maxitems": 100000, "errors": True}]
    assert found["0", "name", "", ""] == "example.com/v1"
    assert found["0", "rcp", "", ""] == "12"
    assert found["0", "retryTime", "", ""] == "0"
    assert found["0", "event", "0", "text"] == "421 too many connections"


def test_a_monitor_of_traffic_finds_its_leaves_in_dom(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Lines are cut at `=`, the first and last character of the rest taken away."""
    _, printed, _ = run(tmp_path, capsys, "--dom", "show", "status")

    status = {line.split("=")[0]: line.split("=")[1][1:-1] for line in printed.splitlines()}
    assert status["status.conn.smtpIn.cur"] == "1"
    assert status["status.traffic.lastMin.out.rcp"] == "0"
    assert status["status.traffic.total.out.rcp"] == "6"
    assert status["status.queue.smtp.rcp"] == "12"


def test_what_was_said_to_recipients_can_be_left_out(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    row = {**QUEUE, "event": [*QUEUE["event"], {"type": "reply", "time": 1, "text": "550 nobody"}]}  # type: ignore[misc]
    answers = {"show.queues": {"queue": [row], "totalRcp": 12}}
    arguments = ["show", "queues", "--errors", "--no-rcpt-events"]

    def said(place: str, *wanted: str) -> bool:
        (tmp_path / place).mkdir()
        return "550 nobody" in run(tmp_path / place, capsys, *wanted, answers=answers)[1]

    assert not said("a", *arguments)
    assert not said("b", "--xml", *arguments)
    assert said("c", *arguments[:-1])


def test_the_socket_is_found_through_a_configuration_with_errors(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = tmp_path / "mta.conf"
    config.write_text("control-socket ctl\nnonsense\n")
    with ControlServer(tmp_path / "ctl", ANSWERS):
        assert main(["-c", str(config), "show", "version"]) == 0

    assert "mta 1.2" in capsys.readouterr().out
