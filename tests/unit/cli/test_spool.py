"""`mta spool`: the files alone, without a server."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import click
import pytest
from click.testing import CliRunner, Result

from mta.cli.invocation import Exit, Invocation
from mta.cli.main import main
from mta.cli.spool import spool as command
from mta.errors import MtaError
from tests.support.spool import Spool

Run = Callable[..., Result]


@pytest.fixture
def place(tmp_path: Path) -> Path:
    spool = Spool(tmp_path / "spool" / "0", segment_size=16 << 10)
    spool.put(b"Subject: a\r\n\r\n..dotted\r\n", name="q1", recipients=2)
    spool.put(b"Subject: b\r\n\r\nbody\r\n", name="q2")
    spool.settle(spool.answers[0][0], 0)
    spool.partition.defer(spool.answers[1][0], 0, attempts=4, due=99.0, event=None)
    spool.flush()
    spool.partition.close()
    return tmp_path / "spool"


@pytest.fixture
def run(place: Path) -> Run:
    runner = CliRunner()

    def call(*words: str, config: Path | None = None) -> Result:
        rest = [*words[1:]] if config else ["--spool", str(place), *words[1:]]
        result = runner.invoke(
            command, [words[0], *rest], obj=Invocation(config=config), standalone_mode=False
        )
        if isinstance(result.exception, (MtaError, click.ClickException)):
            raise result.exception
        assert result.exception is None, result.exception
        return result

    return call


def test_list_prints_a_line_for_each_message(run: Run) -> None:
    lines = run("list").output.splitlines()

    assert lines[2].split()[0] == "q1"
    assert "1/2" in lines[2]
    assert lines[3].split()[0] == "q2"
    assert lines[-1] == "2 messages"


def test_list_can_be_narrowed(run: Run) -> None:
    assert run("list", "--queue", "example.net").output.splitlines()[-1] == "0 messages"
    assert run("list", "--queue", "example.com/v").output.splitlines()[-1] == "2 messages"
    assert run("list", "--maxitems", "1").output.splitlines()[-1] == "2 messages (1 shown)"


def test_list_in_json_holds_every_recipient(run: Run) -> None:
    data = json.loads(run("list", "--json").output)["data"]

    assert data["total"] == 2
    first, second = data["messages"]
    assert [one["settled"] for one in first["recipients"]] == [True, False]
    assert (second["recipients"][0]["attempts"], second["recipients"][0]["nextTry"]) == (4, 99.0)


def test_the_spool_of_the_configuration_is_the_default(run: Run, place: Path, tmp_path: Path) -> None:
    config = tmp_path / "mta.conf"
    config.write_text(f"<spool {place}>\n</spool>\n")

    assert "q1" in run("list", config=config).output


def test_show_says_what_became_of_each_recipient(run: Run) -> None:
    output = run("show", "q1").output

    assert "u0@example.com" in output
    assert "settled" in output
    assert output.splitlines()[-1] == "1 waiting"
    assert "deferred" in run("show", "q2").output
    assert json.loads(run("show", "q2", "--json").output)["data"]["queueId"] == "q2"


def test_showing_what_is_not_there_fails(run: Run) -> None:
    result = run("show", "q9")

    assert result.return_value == Exit.NO_INPUT
    assert "q9 is not in the spool" in result.output


def test_a_spool_that_is_not_there_is_missing_input(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["spool", "list", "--spool", str(tmp_path / "none")]) == 66
    assert "No such file or directory" in capsys.readouterr().err


def test_verify_of_a_sound_spool_succeeds(run: Run) -> None:
    result = run("verify")

    assert result.return_value == 0
    assert "Damage      none" in result.output
    assert json.loads(run("verify", "--json").output)["data"][0]["messages"] == 2


def test_verify_of_a_damaged_spool_names_file_and_bytes(run: Run, place: Path) -> None:
    path = next(path for path in place.rglob("segments/*") if b"dotted" in path.read_bytes())
    path.write_bytes(path.read_bytes().replace(b"dotted", b"dottEd"))

    result = run("verify")

    assert result.return_value == Exit.DATA
    assert f"{path}: bytes 4096 to" in result.output


def test_export_writes_a_message_as_a_file(run: Run, tmp_path: Path) -> None:
    assert run("export", "q1").stdout_bytes == b"Subject: a\r\n\r\n.dotted\r\n"

    result = run("export", "--all", "--to", str(tmp_path / "out"))

    assert "2 messages written" in result.output
    assert (tmp_path / "out" / "q2.eml").read_bytes() == b"Subject: b\r\n\r\nbody\r\n"
    assert (tmp_path / "out" / "q2.eml").stat().st_mode & 0o777 == 0o600


def test_export_wants_to_know_what_and_where(run: Run) -> None:
    with pytest.raises(click.UsageError, match="which messages"):
        run("export")
    with pytest.raises(click.UsageError, match="--to"):
        run("export", "--all")
    assert run("export", "q9").return_value == Exit.NO_INPUT


def test_export_answers_a_program_once_whatever_is_missing(run: Run, tmp_path: Path) -> None:
    result = run("export", "q1", "q9", "--to", str(tmp_path / "out"), "--json")

    answer = json.loads(result.output)
    assert answer["status"] != "success"
    assert answer["data"] == {"written": ["q1"], "damaged": [], "missing": ["q9"]}
    assert answer["message"] == "q9 is not in the spool"
    assert result.return_value == Exit.NO_INPUT


def test_export_of_a_damaged_message_names_it_and_writes_the_others(
    run: Run, place: Path, tmp_path: Path
) -> None:
    Spool(place / "0").partition.close()  # seals the file: its bodies are not checked at a start any more
    path = next(path for path in (place / "0" / "segments").iterdir() if b"dotted" in path.read_bytes())
    path.write_bytes(path.read_bytes().replace(b"dotted", b"dottEd"))

    result = run("export", "--all", "--to", str(tmp_path / "out"))

    assert "mta: q1: body of message" in result.stderr
    assert "1 message written" in result.output
    assert result.return_value == Exit.DATA
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["q2.eml"]
