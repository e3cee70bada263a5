"""The example configurations are sound: they load, and what they warn of is known."""

from __future__ import annotations

from pathlib import Path

import pytest

from mta.config.directives import Status
from mta.config.lint import Machine, lint
from mta.config.load import load
from mta.config.snapshot import Snapshot

CONF = Path(__file__).resolve().parents[3] / "conf"

#: A machine that has everything the examples ask for.
MACHINE = Machine(file_limit=65536, memory=16 << 30)


def snapshot_of(name: str) -> Snapshot:
    loaded = load(CONF / name)
    assert loaded.snapshot is not None, [str(problem) for problem in loaded.problems]
    assert [str(problem) for problem in loaded.problems] == []
    return loaded.snapshot


def test_production_example_warns_only_of_the_key_it_can_not_bring() -> None:
    texts = [problem.text for problem in lint(snapshot_of("mta.conf"), MACHINE)]

    assert texts == [
        "there is no domain-key: mail goes out without a DKIM signature",
        "process-user is an extension of this server",
    ]


@pytest.mark.parametrize("name", ["mta.conf", "quickstart.conf"])
def test_examples_show_nothing_that_has_no_effect(name: str) -> None:
    written = snapshot_of(name).written

    assert [line.name for line in written if line.directive.status is Status.NO_EFFECT] == []


def test_what_the_production_example_has_commented_out_is_known_too(tmp_path: Path) -> None:
    lines = (CONF / "mta.conf").read_text().splitlines()
    example = [line[1:] if line[:1] == "#" and line[1:2].strip() else line for line in lines]
    for name in ("tls/mail.example.com.pem", "keys/s2026.example.com.pem", "keys/e2026.example.com.pem"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    file = tmp_path / "mta.conf"
    file.write_text("\n".join(example).replace("/etc/mta/", f"{tmp_path}/"))

    loaded = load(file)

    assert [str(problem) for problem in loaded.problems] == []


def test_quickstart_stays_on_this_machine() -> None:
    snapshot = snapshot_of("quickstart.conf")

    assert [(listener.host, listener.port) for listener in snapshot.listeners] == [("127.0.0.1", 2525)]
    assert snapshot.effective("example.com", "vmta1").integer("default-smtp-port") == 2526
    assert snapshot.top.texts("name-server") == ("127.0.0.1:5354",)
    assert not snapshot.source("192.0.2.1").boolean("always-allow-relaying")
    assert snapshot.source("127.0.0.1").boolean("always-allow-relaying")


def test_quickstart_sends_from_two_addresses_in_turn() -> None:
    snapshot = snapshot_of("quickstart.conf")

    assert snapshot.pools["outbound"].members == ("vmta1", "vmta2")
    sources = [snapshot.vmtas[name].sources[0] for name in ("vmta1", "vmta2")]
    assert [(source.ip, source.host_name) for source in sources] == [
        ("127.0.0.11", "out1.quickstart.example"),
        ("127.0.0.12", "out2.quickstart.example"),
    ]


def test_quickstart_writes_below_its_own_folder_only() -> None:
    snapshot = snapshot_of("quickstart.conf")
    paths = [
        *(str(spool.path) for spool in snapshot.spools),
        *(file.target for file in (*snapshot.acct_files, *snapshot.reject_files)),
        snapshot.top.text("control-socket"),
    ]

    home = (CONF.parent / "demo-run").resolve()
    assert all(Path(path).resolve().is_relative_to(home) for path in paths)


def test_limits_of_the_production_example_are_those_that_receivers_publish() -> None:
    snapshot = snapshot_of("mta.conf")

    assert snapshot.effective("yahoo.com", "vmta1").integer("max-msg-per-connection") == 20
    assert snapshot.effective("gmail.com", "vmta1").boolean("require-starttls")
    assert snapshot.effective("unlisted.example", "vmta1").intervals("retry-after")[0] == 600
