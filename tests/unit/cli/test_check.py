"""`mta check`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from mta.cli.check import find_problems
from mta.cli.main import main
from mta.config.load import load
from mta.config.problems import Severity

FINE = """\
host-name mail.example.com
smtp-listener 127.0.0.1:2525
spool /tmp/spool
"""


def config(tmp_path: Path, text: str) -> str:
    path = tmp_path / "mta.conf"
    path.write_text(text)
    return str(path)


def test_errors_exit_with_78_and_are_all_printed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = config(tmp_path, "spol /x\n<domain *>\nretry-after x\n</domain>\n")

    assert main(["check", path]) == 78
    out = capsys.readouterr().out
    assert f"{path}:1: error: unknown directive spol" in out
    assert "did you mean spool?" in out
    assert f"{path}:3: error: retry-after" in out
    assert "can't be used: 2 errors." in out


def test_errors_hide_no_warnings_about_other_lines(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = config(tmp_path, "spol /x\npid-file /run/x\n<domain *>\nretry-after 1s\n</domain>\n")

    assert main(["check", path]) == 78
    out = capsys.readouterr().out
    assert ":1: error: unknown directive spol" in out
    assert ":2: warning: pid-file is not a PowerMTA directive" in out
    assert ":4: warning: retry-after" in out


def test_nothing_is_called_missing_that_may_stand_in_a_wrong_line(tmp_path: Path) -> None:
    fine = load(Path(config(tmp_path, FINE)))
    assert "there is no <domain *>" in "".join(problem.text for problem in find_problems(fine))

    broken = load(Path(config(tmp_path, FINE + "<domian *>\n</domian>\n")))

    assert all(problem.line for problem in find_problems(broken))


def test_a_key_that_is_not_there_is_one_error(tmp_path: Path) -> None:
    loaded = load(Path(config(tmp_path, f"{FINE}domain-key s1,a.example,{tmp_path}/none.pem\n")))

    assert [problem.line for problem in find_problems(loaded) if "none.pem" in problem.text] == [4]


def test_warnings_alone_exit_with_0_unless_strict(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = config(tmp_path, FINE + "pid-file /run/x\n")

    assert main(["check", path]) == 0
    assert ":4: warning: pid-file is not a PowerMTA directive" in capsys.readouterr().out
    assert main(["check", "--strict", path]) == 78
    assert "can be used, but --strict wants no warnings: " in capsys.readouterr().out


def test_the_usage_of_check_is_what_people_type(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", "--help"]) == 0
    assert capsys.readouterr().out.startswith("Usage: mta check [OPTIONS] [FILE]\n")


def test_json_has_everything_that_the_text_has(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = config(tmp_path, "spol /x\n")

    assert main(["check", "--json", path]) == 78
    answer = json.loads(capsys.readouterr().out)
    assert answer["status"] == "failure"
    assert answer["data"]["errors"] == 1
    assert answer["data"]["problems"][0] == {
        "file": path,
        "line": 1,
        "severity": "error",
        "text": "unknown directive spol at the top level",
        "hint": "did you mean spool?",
    }


def test_the_file_may_come_from_config_as_well(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = config(tmp_path, "spol /x\n")

    assert main(["--config", path, "check"]) == 78
    assert main(["check", "-c", path]) == 78
    assert capsys.readouterr().out.count("unknown directive spol") == 2


def test_a_file_that_is_not_there_is_an_error_of_the_configuration(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["check", str(tmp_path / "none")]) == 78
    assert "no such file" in capsys.readouterr().out


def test_quiet_is_silent_about_what_can_be_used(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", "--quiet", config(tmp_path, FINE + "pid-file /run/x\n")]) == 0
    assert "pid-file" not in capsys.readouterr().out


def test_a_key_that_cannot_sign_is_found_before_the_server_refuses_it(tmp_path: Path) -> None:
    (tmp_path / "bad.pem").write_text("-----BEGIN PRIVATE KEY-----\nnonsense\n-----END PRIVATE KEY-----\n")
    (tmp_path / "bad.pem").chmod(0o600)
    config = tmp_path / "mta.conf"
    config.write_text(
        "host-name mta.example.org\nsmtp-listener 127.0.0.1:2525\nspool spool\n"
        f"domain-key s1, example.org, {tmp_path}/bad.pem\n"
    )

    loaded = load(config)
    problems = [problem for problem in find_problems(loaded) if "bad.pem" in problem.text]

    assert [(problem.line, problem.severity) for problem in problems] == [(4, Severity.ERROR)]


def test_powermtas_short_form_says_the_first_error(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = config(tmp_path, "host-name x.example.com\nspol /x\nspul /x\n")
    assert main(["-c", path, "test", "config"]) == 78
    assert capsys.readouterr().err.startswith(f"Error in line 2 of {path}: unknown directive spol")

    path = config(tmp_path, FINE)
    assert main(["-c", path, "test", "config"]) == 0
    assert capsys.readouterr().out == "Configuration OK.\n"
    assert main(["-c", path, "--json", "test", "config"]) == 0
    assert json.loads(capsys.readouterr().out)["message"] == "Configuration OK."
