"""The `mta` command: finding sub-commands, exit codes, help."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import click
import pytest

from mta.cli.main import COMMANDS, cli, main


def test_the_list_of_commands_is_printed_without_loading_them() -> None:
    script = (
        "import sys; from mta.cli.main import main; main(['--help']);"
        "heavy = ('mta.service', 'mta.cli.show', 'rich', 'asyncio');"
        "print([name for name in sys.modules if name.startswith(heavy)])"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)

    assert "Check a configuration" in done.stdout
    assert done.stdout.rstrip().endswith("[]")


def test_a_question_to_the_server_loads_neither_the_language_nor_a_network_library() -> None:
    script = (
        "import sys; from mta.cli.main import main; main(['--socket=/dev/null', 'show', 'topqueues']);"
        "heavy = ('mta.config', 'mta.queue', 'mta.service', 'mta.routing', 'rich', 'asyncio', 'urllib.re');"
        "print([name for name in sys.modules if name.startswith(heavy)])"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)

    assert done.stdout.rstrip() == "[]"
    assert "no server" in done.stderr


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_every_command_loads_and_explains_itself(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    if importlib.util.find_spec(COMMANDS[name].module) is None:
        pytest.skip("not there yet")

    assert main([name, "--help"]) == 0
    assert "Usage: mta" in capsys.readouterr().out


def test_names_may_be_shortened_while_they_are_unique(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["rel", "--help"]) == 0
    assert "mta reload" in capsys.readouterr().out
    assert main(["re", "--help"]) == 64
    assert "'re' is short for reload, resume, resolve, reset" in capsys.readouterr().err


@pytest.mark.parametrize(("short", "full"), [("de", "delete"), ("del", "delete"), ("der", "deregister")])
def test_command_that_does_nothing_is_not_in_the_way_of_one_that_does(
    short: str, full: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([short, "--help"]) == 0
    assert f"Usage: mta {full} " in capsys.readouterr().out


def test_sub_commands_may_be_shortened_too(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["sh", "topq", "--help"]) == 0
    assert "most recipients" in capsys.readouterr().out


@pytest.mark.parametrize(
    "arguments", [["nonsense"], ["--nonsense"], ["pause", "queue"], ["show", "nonsense"]]
)
def test_wrong_usage_is_64(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments) == 64
    assert "Usage: mta" in capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments",
    [
        ["--json", "nonsense"],
        ["--json", "--nonsense"],
        ["pause", "queue", "--json"],
        ["show", "nonsense", "--dom", "--json"],
    ],
)
def test_wrong_usage_is_told_to_programs_in_their_form(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == 64

    said = capsys.readouterr()
    answer = json.loads(said.out)
    assert answer["status"] == "failure"
    assert answer["message"]
    assert said.err == ""


def test_the_version_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out.startswith("mta ")


def test_without_any_configuration_it_says_where_it_looked(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("MTA_CONFIG", str(tmp_path / "none"))

    assert main(["run"]) == 78
    assert str(tmp_path / "none") in capsys.readouterr().err


def test_errors_are_json_when_json_was_asked_for(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert main(["--json", "--socket", str(tmp_path / "none"), "show", "status"]) == 69

    answer = json.loads(capsys.readouterr().out)
    assert answer["status"] == "failure"
    assert "no server is running" in answer["message"]


def test_every_leaf_knows_json_config_and_socket() -> None:
    def leaves(command: click.Command, path: str) -> list[tuple[str, click.Command]]:
        if not isinstance(command, click.Group):
            return [(path, command)]
        context = click.Context(command)
        found = []
        for name in command.list_commands(context):
            inner = command.get_command(context, name)
            assert inner is not None
            found += leaves(inner, f"{path} {name}")
        return found

    ours = {
        name
        for name, entry in COMMANDS.items()
        if entry.module.split(".")[-1] in ("show", "queues", "server")
    }
    for path, leaf in leaves(cli, "mta"):
        if path.split()[1] in ours | {"check"}:
            options = {option for parameter in leaf.params for option in parameter.opts}
            assert {"--json", "--xml", "--dom", "--config", "--socket"} <= options, path
