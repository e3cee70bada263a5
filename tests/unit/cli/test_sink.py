"""`mta sink`'s command line: what becomes of its options."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from mta.cli.sink import Display, build_options, sink
from mta.errors import ConfigError
from mta.sink.receiver import Receiver, ReceiverOptions, Tls
from mta.sink.script import Stage


def given(*arguments: str) -> dict[str, Any]:
    """The options as the command gets them."""
    return sink.make_context("sink", list(arguments)).params


def test_defaults_accept_everything_in_clear() -> None:
    options = build_options(given())

    assert options == ReceiverOptions(answers=options.answers, script=options.script)
    assert options.answers.obtain(b"any.example").verdict() is None
    assert given()["listen"] == (("127.0.0.1", 2526),)


def test_shares_are_percent_and_domains_have_their_own() -> None:
    options = build_options(
        given(
            *("--refuse", "100", "--domain", "ok.example:refuse=0"),
            *("--domain", "*.slow.example:refuse=0,defer=100,latency=20ms,at=dot,defer-reply=450 4.2.1 slow"),
        )
    )

    assert options.answers.obtain(b"other.example").verdict() is not None
    assert options.answers.obtain(b"ok.example").verdict() is None
    slow = options.answers.obtain(b"mx.slow.example")
    assert (slow.at_dot, slow.latency, slow.verdict()) == (True, 0.02, b"450 4.2.1 slow")


def test_limits_latency_and_encryption() -> None:
    options = build_options(
        given(
            *("--latency", "100ms", "--latency-at", "each", "--max-connections", "5"),
            *(
                "--max-connections-per-ip",
                "2",
                "--max-messages",
                "7",
                "--max-recipients",
                "9",
                "--max-size",
                "11",
            ),
            *("--tls", "starttls", "--no-pipelining", "--name", "mx.example"),
        )
    )

    assert (options.latency, options.every_reply) == (0.1, True)
    assert (options.max_connections, options.max_connections_per_ip) == (5, 2)
    assert (options.max_messages_per_connection, options.max_recipients, options.max_size) == (7, 9, 11)
    assert (options.tls, options.pipelining, options.host_name) == (Tls.STARTTLS, False, "mx.example")


def test_scripts_come_from_the_line_and_from_a_file(tmp_path: Path) -> None:
    script = tmp_path / "script"
    script.write_text("# a comment\n\nDATA 451 4.3.0 no\n")
    options = build_options(given("--reply", "MAIL 421 4.3.2 no", "--script", str(script)))

    assert options.script.find(Stage.MAIL) is not None
    assert options.script.find(Stage.DATA) is not None
    assert options.script.find(Stage.RCPT) is None


@pytest.mark.parametrize(
    "arguments",
    [
        ["--defer", "101"],
        ["--listen", "nowhere"],
        ["--listen", "127.0.0.1:99999"],
        ["--latency", "soon"],
        ["--domain", "x.example:color=red"],
        ["--domain", "x.example:defer=many"],
        ["--domain", "x.example:at=night"],
        ["--domain", "x.example:defer-reply=later"],
        ["--defer", "60", "--refuse", "60"],
        ["--reply", "NOWHERE 250 ok"],
    ],
)
def test_mistakes_are_usage_errors(arguments: list[str]) -> None:
    result = CliRunner().invoke(sink, arguments)

    assert result.exit_code == 2
    assert "Error" in result.output


def test_unreadable_script_is_an_error() -> None:
    with pytest.raises(ConfigError):
        build_options(given("--reply", "MAIL fly"))


def test_address_of_version_six_is_understood() -> None:
    assert given("--listen", "[::1]:2526", "--listen", "2527")["listen"] == (
        ("::1", 2526),
        ("127.0.0.1", 2527),
    )


def busy_receiver() -> Receiver:
    receiver = Receiver()
    receiver.totals.messages, receiver.totals.accepted = 1500, 1600
    receiver.totals.first_at, receiver.totals.last_at = 10.0, 12.0
    receiver.options.answers.obtain(b"example.com").totals.accepted = 1600
    return receiver


def test_summary_tells_rate_and_domains() -> None:
    out = io.StringIO()
    Display(out=out).summary(busy_receiver())

    said = " ".join(out.getvalue().split())
    assert "1,500 messages" in said
    assert "(750/s)" in said
    assert "example.com" in said


def test_summary_and_counts_for_programs_are_json() -> None:
    out = io.StringIO()
    display = Display(out=out, as_json=True, counts=True)
    display.progress(busy_receiver(), 2.0, 750.0)
    display.summary(busy_receiver())

    counts, summary = (json.loads(line) for line in out.getvalue().splitlines())
    assert counts["messages"] == summary["messages"] == 1500
    assert summary["rate"] == 750.0
    assert summary["domains"]["example.com"]["accepted"] == 1600


def test_counts_for_people_are_one_line() -> None:
    out = io.StringIO()
    Display(out=out, counts=True).progress(busy_receiver(), 2.0, 750.0)

    assert "messages=1500" in out.getvalue()
