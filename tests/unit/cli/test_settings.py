"""`mta show settings`: every value with the line it comes from."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from mta.cli.main import main

TEXT = """\
host-name mail.example.com
domain-key g,example.com,{vault}:/a:b
<virtual-mta v1>
  smtp-source-host 192.0.2.1 out1.example.com
  <domain *>
    max-smtp-out 3
  </domain>
</virtual-mta>
<virtual-mta-pool p>
  virtual-mta v1
</virtual-mta-pool>
<domain example.com>
  max-smtp-out 9
  bounce-after 1d
</domain>
<source 127.0.0.1>
  always-allow-relaying yes
</source>
<source app>
  process-x-job yes
</source>
"""


@pytest.fixture
def path(tmp_path: Path) -> str:
    file = tmp_path / "mta.conf"
    file.write_text(TEXT)
    return str(file)


def settings(path: str, capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, Any]:
    assert main(["--config", path, "--json", "show", "settings", *arguments]) == 0
    answer = json.loads(capsys.readouterr().out)
    return {row["name"]: row for row in answer["data"]["settings"]}


def test_each_value_names_file_line_and_block(path: str, capsys: pytest.CaptureFixture[str]) -> None:
    found = settings(path, capsys, "example.com/v1")

    assert (found["max-smtp-out"]["value"], found["max-smtp-out"]["line"]) == ("3", 6)
    assert found["max-smtp-out"]["block"] == "virtual-mta v1 / domain *"
    assert (found["bounce-after"]["value"], found["bounce-after"]["line"]) == ("1d", 14)
    assert found["retry-after"]["isDefault"]


def test_keys_are_shown_in_their_order_of_search(path: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert settings(path, capsys, "example.com/v1")["domain-key"]["value"] == "g,example.com,{vault}:/a:b"


def test_without_a_virtual_mta_the_default_one_is_meant(
    path: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert settings(path, capsys, "example.com")["max-smtp-out"]["value"] == "9"


def test_text_shows_name_value_and_origin(path: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--config", path, "show", "settings", "example.com/v1"]) == 0

    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["directive", "value", "from"]
    row = next(line for line in lines if line.startswith("max-smtp-out "))
    assert row.split(None, 2)[1:] == ["3", f"{path}:6 (virtual-mta v1 / domain *)"]
    assert lines[-1].endswith("settings of example.com/v1.")


def test_all_adds_what_has_no_effect(path: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert "use-dane" not in settings(path, capsys, "example.com")
    assert "use-dane" in settings(path, capsys, "--all", "example.com")


def test_virtual_mtas_clients_and_the_top_level_have_settings_too(
    path: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert settings(path, capsys, "--vmta", "v1")["smtp-source-host"]["value"] == "192.0.2.1 out1.example.com"
    assert settings(path, capsys, "--source", "127.0.0.1")["always-allow-relaying"]["value"] == "yes"
    assert settings(path, capsys, "--source", "app")["process-x-job"]["value"] == "yes"
    both = settings(path, capsys, "--source", "127.0.0.1/app")
    assert (both["process-x-job"]["value"], both["always-allow-relaying"]["value"]) == ("yes", "yes")
    assert settings(path, capsys)["host-name"]["value"] == "mail.example.com"


def test_lists_that_stand_elsewhere_have_no_empty_rows(path: str, capsys: pytest.CaptureFixture[str]) -> None:
    """An empty `domain-key` above the keys, or an empty `spool`, says that there are none."""
    for arguments in ([], ["--vmta", "v1"], ["example.com/v1"]):
        main(["--config", path, "--json", "show", "settings", *arguments])
        rows = json.loads(capsys.readouterr().out)["data"]["settings"]
        assert [row["line"] for row in rows if row["name"] == "domain-key"] == [2]
        assert not [row for row in rows if row["name"] in {"spool", "domain-macro", "regex"}]


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["example.com/v2"], "there is no virtual-mta v2"),
        (["example.com/p"], "it is a pool, whose members are v1"),
        (["--vmta", "v2"], "there is no virtual-mta"),
        (["--source", "nobody"], "neither an IP address nor the name"),
    ],
)
def test_names_that_nothing_has_are_refused(
    path: str, arguments: list[str], text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--config", path, "show", "settings", *arguments]) == 78
    assert text in capsys.readouterr().err


def test_a_wrong_configuration_shows_its_errors_instead(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "c").write_text("spol /x\n")

    assert main(["-c", str(tmp_path / "c"), "show", "settings", "a.b"]) == 78
    assert "unknown directive spol" in capsys.readouterr().err


def test_powermtas_command_for_virtual_mtas_shows_the_same(
    path: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--config", path, "show", "vmta-settings", "v1"]) == 0
    said = capsys.readouterr().out

    assert "out1.example.com" in said
    assert "settings of" in said.splitlines()[-1]
