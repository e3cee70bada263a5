"""Other servers on the bench: what they are told, and that a message passes where they are installed."""

from __future__ import annotations

import smtplib
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from benchmarks.enclosure import Account, Enclosure, can_enclose
from benchmarks.exim import EximServer, exim_configuration, has_exim
from benchmarks.opensmtpd import OpensmtpdServer, has_opensmtpd, opensmtpd_configuration
from benchmarks.peers import installed_peers, peer_versions
from benchmarks.processes import BenchError
from benchmarks.servers import BenchServer
from benchmarks.tools import LightSink

needs_root = pytest.mark.skipif(not can_enclose(), reason="takes root, unshare and control groups")


def test_exim_delivers_every_message_of_a_session_at_once(tmp_path: Path) -> None:
    text = exim_configuration(tmp_path, port=2525, sink_port=2526, sessions=200, program="/usr/sbin/exim4")

    assert "daemon_smtp_ports = 2525\n" in text
    assert "  port = 2526\n" in text
    assert "smtp_accept_max = 250\n" in text
    assert "smtp_accept_queue_per_connection = 0\n" in text
    assert f"spool_directory = {tmp_path}/spool\n" in text
    assert f"${{if exists{{{tmp_path}/hold}}}}" in text


def test_opensmtpd_opens_as_many_connections_as_others_may() -> None:
    text = opensmtpd_configuration(port=2525, sink_port=2526, connections=50)

    assert "listen on 127.0.0.1 port 2525 " in text
    assert "relay host smtp+notls://127.0.0.1:2526 " in text
    assert "mta limit max-conn-per-host 50\n" in text


def test_every_peer_that_takes_part_is_named_with_its_version() -> None:
    assert set(peer_versions()) == {server.value for server in installed_peers()}
    assert all(peer_versions().values())


@needs_root
def test_users_and_places_of_an_enclosure_are_seen_only_inside(tmp_path: Path) -> None:
    enclosure = Enclosure(tmp_path, users=["root", "stranger"], places=["/run"])
    try:
        script = "id -un $1; id -u root; echo here > /run/bench; cut -d: -f3 /proc/self/cgroup | tail -1"
        command = enclosure.command(["sh", "-c", script, "sh", str(enclosure.owner("stranger"))])
        said = subprocess.run(command, capture_output=True, text=True, check=True, timeout=20).stdout.split()
        used = enclosure.account.cpu().total
    finally:
        enclosure.account.close()

    assert said[:2] == ["stranger", "0"]
    assert "mta-bench-" in said[2]
    assert enclosure.at("/run/bench").read_text() == "here\n"
    assert not Path("/run/bench").exists()
    assert used > 0


@needs_root
def test_whoever_is_left_of_an_account_is_ended(tmp_path: Path) -> None:
    account = Account(tmp_path.name)
    words = ["sh", "-c", 'echo $$ > "$1"; exec sleep 600', "sh", str(account.processes)]
    with subprocess.Popen(words) as process:
        while not account.processes.read_text():
            assert process.poll() is None
        account.close()

        assert process.wait(20) == -9
    assert not account.processes.parent.exists()


def pass_one_message(make: Callable[[Path, int], BenchServer], directory: Path) -> None:
    """One message through a server to a receiver, and its end."""
    sink = LightSink(directory)
    try:
        server = make(directory, sink.port)
        try:
            with smtplib.SMTP("127.0.0.1", server.port, timeout=20) as client:
                client.sendmail("a@bench.example", ["b@bench.example"], "Subject: one\r\n\r\nof us\r\n")
            sink.wait(1)

            assert sink.messages() == 1
            assert server.cpu().total > 0
        finally:
            server.close()
    finally:
        sink.close()


@pytest.mark.peers
@pytest.mark.skipif(not has_exim(), reason="Exim is not installed")
def test_exim_relays(tmp_path: Path) -> None:
    pass_one_message(lambda home, sink: EximServer(home, sink_port=sink, sessions=20), tmp_path)


@pytest.mark.peers
@pytest.mark.skipif(not has_opensmtpd(), reason="OpenSMTPD is not installed")
def test_opensmtpd_relays(tmp_path: Path) -> None:
    pass_one_message(lambda home, sink: OpensmtpdServer(home, sink_port=sink, connections=5), tmp_path)


@needs_root
def test_a_server_that_does_not_come_up_leaves_nothing_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EXIM", "/bin/false")
    monkeypatch.setattr("benchmarks.exim.PATIENCE", 0.2)

    with pytest.raises(BenchError, match=r"^Exim: not within"):
        EximServer(tmp_path, sink_port=2526, sessions=20)

    assert not list(Path("/sys/fs/cgroup").glob(f"**/mta-bench-*{tmp_path.name}"))
