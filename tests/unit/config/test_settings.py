"""Typed getters."""

from __future__ import annotations

from pathlib import Path

import pytest

from mta.config.kinds import Scope
from mta.config.load import load_text
from mta.config.settings import Settings, merge


def top(text: str) -> Settings:
    loaded = load_text(text, directory=Path("/etc/mta"))
    assert loaded.snapshot is not None, loaded.problems
    return loaded.snapshot.top


def domain(text: str) -> Settings:
    loaded = load_text(f"<domain *>\n{text}\n</domain>")
    assert loaded.snapshot is not None, loaded.problems
    return loaded.snapshot.effective("a.b", "{default}")


def test_repeatable_directives_give_all_their_lines() -> None:
    settings = top(
        "name-server 192.0.2.1\nname-server 192.0.2.2:5353\nhost-name a.example\nhost-name b.example"
    )

    assert settings.texts("name-server") == ("192.0.2.1", "192.0.2.2:5353")
    assert settings.texts("host-name") == ("a.example", "b.example")
    assert settings.text("host-name") == "b.example"


def test_lists_give_their_entries() -> None:
    assert domain("dkim-headers a, b").texts("dkim-headers") == ("a", "b")
    assert domain("").texts("dkim-headers") == ()


def test_paths_are_absolute() -> None:
    settings = top("log-file log/mta.log\ncontrol-socket ../run/ctl")

    assert settings.path("log-file") == Path("/etc/mta/log/mta.log")
    assert settings.text("control-socket") == "/etc/run/ctl"
    assert top("").path("log-file") is None
    assert top('control-socket ""').path("control-socket") is None


def test_the_text_of_any_value_is_what_was_written_without_quotes() -> None:
    assert domain("max-msg-rate 5/h").text("max-msg-rate") == "5/h"
    assert domain('bounce-after "1d"').text("bounce-after") == "1d"
    assert domain("").text("retry-after") == "10m"


def test_nothing_in_force_reads_as_nothing() -> None:
    settings = domain("")

    assert settings.interval("backoff-to-normal-after") is None
    assert settings.rate("backoff-max-msg-rate") is None
    assert settings.integer("max-retries") == 0
    assert settings.text("queue-to") == ""


def test_an_empty_line_clears_earlier_ones_of_a_repeatable_directive() -> None:
    assert top('name-server 192.0.2.1\nname-server ""\nname-server 192.0.2.2').texts("name-server") == (
        "192.0.2.2",
    )


def test_names_of_other_scopes_and_getters_of_other_kinds_are_mistakes() -> None:
    settings = domain("")

    with pytest.raises(KeyError, match="not a directive of <domain>"):
        settings.boolean("always-allow-relaying")
    with pytest.raises(TypeError, match="max-smtp-out is a INTEGER"):
        settings.interval("max-smtp-out")


def test_what_is_in_force_lists_every_line_of_every_directive() -> None:
    rows = list(top("name-server 192.0.2.1\nname-server 192.0.2.2").in_force())

    servers = [(row.text, row.origin.line if row.origin else 0) for row in rows if row.name == "name-server"]
    assert servers == [("192.0.2.1", 1), ("192.0.2.2", 2)]
    written = [row.name for row in top("workers 2").in_force(with_defaults=False)]
    assert written == ["workers"]


def test_later_layers_win_each_name_on_its_own() -> None:
    assert merge([{"a": 1, "b": 1}, {"b": 2}]) == {"a": 1, "b": 2}  # type: ignore[dict-item, comparison-overlap]


def test_a_view_says_what_it_is() -> None:
    assert repr(Settings(Scope.DOMAIN, {})) == "<Settings of domain: 0 written>"
    assert repr(top("workers 2")) == "<Settings of top level: 1 written>"
