"""Commands that have nothing to do here answer all the same."""

from __future__ import annotations

import json

import pytest

from mta.cli.main import main


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["show", "license"], 0, "expires: never"),
        (["show", "registration"], 0, "Not registered with a console."),
        (["deregister"], 0, "Not registered with a console."),
        (["clear", "secretscache"], 0, "Secrets cache cleared."),
        (["register"], 69, "there is no console to register with"),
    ],
)
def test_the_answer_is_true_and_needs_no_server(
    words: list[str], code: int, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--socket", "/nonexistent", *words]) == code
    printed = capsys.readouterr()
    assert said in printed.out + printed.err

    assert main(["--json", *words]) == code
    assert json.loads(capsys.readouterr().out)["status"] == ("failure" if code else "success")
