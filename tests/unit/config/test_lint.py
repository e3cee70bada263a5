"""Every dangerous setting is named where it stands, and a sound configuration is met with silence."""

from __future__ import annotations

from pathlib import Path

import pytest

from mta.config.lint import Machine, lint
from mta.config.load import load_text
from mta.config.problems import Problem, Severity

#: Nothing to complain about: the tests below each spoil one line of it.
SOUND = """
host-name mail.example.com
total-max-smtp-out 500
total-max-smtp-in 100
process-user mta
domain-key s1,*,/etc/mta/s1.pem
smtp-listener 127.0.0.1:25
spool /var/spool/mta

<acct-file /var/log/mta/acct.csv>
</acct-file>

<source 127/8>
    always-allow-relaying yes
</source>

<virtual-mta v1>
    smtp-source-host 192.0.2.10 out1.example.com
</virtual-mta>

<domain *>
    max-smtp-out 20
    max-msg-per-connection 100
    retry-after 10m,30m
    retry-recipients-after 10m
    dkim-sign yes
</domain>
"""

MACHINE = Machine(file_limit=65536, memory=16 << 30)

#: The one warning of SOUND: process-user is ours.
EXTENSION = "process-user is an extension of this server"


def warnings(text: str, machine: Machine = MACHINE) -> list[Problem]:
    loaded = load_text(text, directory=Path("/etc/mta"))
    assert loaded.snapshot is not None, [str(problem) for problem in loaded.problems]
    return [found for found in lint(loaded.snapshot, machine) if found.text != EXTENSION]


def spoiled(old: str, new: str, machine: Machine = MACHINE) -> list[Problem]:
    assert old in SOUND
    return warnings(SOUND.replace(old, new), machine)


def test_sound_configuration_is_met_with_silence() -> None:
    assert warnings(SOUND) == []


def test_line_without_effect_is_reported_where_it_stands() -> None:
    [found] = spoiled("max-smtp-out 20", "max-smtp-out 20\n    use-dane yes")

    assert found.text == "use-dane has no effect yet"
    assert (
        "use-dane"
        in SOUND.replace("max-smtp-out 20", "max-smtp-out 20\n    use-dane yes").splitlines()[found.line - 1]
    )


@pytest.mark.parametrize(
    ("kind", "needed"),
    [("file", "file-destination"), ("pipe", "command"), ("http-delivery", "http-delivery-url")],
)
def test_type_without_its_other_half_makes_mail_wait(kind: str, needed: str) -> None:
    block = f"<domain x.example>\n    type {kind}\n</domain>\n"
    [found] = warnings(SOUND + block)

    assert found.text == f"type {kind} without {needed}: mail waits"
    assert warnings(SOUND + block.replace("</", f"    {needed} /x\n</")) == []


def test_dummy_that_everybody_can_reach_is_reported() -> None:
    [found] = warnings(SOUND + "dummy-smtp-port 2599\n")

    assert found.text == "dummy-smtp-port 2599: whoever reaches it hands mail in that is dropped"
    assert warnings(SOUND + "dummy-smtp-port 2599\ndummy-smtp-ip 127.0.0.1\n") == []


def test_lines_in_a_block_without_effect_are_left_to_the_report_about_the_block() -> None:
    assert warnings(SOUND + "<vault>\nserver-url https://vault.example.com\naccess-token x\n</vault>\n") == []


def test_missing_domain_for_all_is_reported() -> None:
    found = warnings(SOUND.replace("<domain *>", "<domain example.org>"))

    assert any("no <domain *>" in problem.text for problem in found)


def test_domain_for_all_in_a_virtual_mta_counts() -> None:
    block = "<domain *>\nmax-msg-per-connection 50\n</domain>\n</virtual-mta>"
    text = SOUND.replace("<domain *>", "<domain example.org>").replace("</virtual-mta>", block)

    assert not any("no <domain *>" in problem.text for problem in warnings(text))


def test_connections_without_end_are_reported_where_they_are_written() -> None:
    [found] = spoiled("max-msg-per-connection 100", "max-msg-per-connection 0")

    assert "max-msg-per-connection 0" in found.text
    assert found.line > 1


def test_connections_without_end_by_default_are_reported() -> None:
    [found] = spoiled("    max-msg-per-connection 100\n", "")

    assert "0 by default" in found.text


def test_more_connections_than_files_are_reported() -> None:
    [found] = warnings(SOUND, Machine(file_limit=512, memory=16 << 30))

    assert "800 open files" in found.text
    assert "512" in found.text


def test_clients_that_wait_for_a_slot_need_files_as_well() -> None:
    text = SOUND + "smtp-await-slot yes\n"

    assert "900 open files" in warnings(text, Machine(file_limit=800, memory=16 << 30))[0].text
    assert warnings(text, Machine(file_limit=900, memory=16 << 30)) == []


def test_what_is_obsolete_is_named_with_the_reason_unless_it_is_off() -> None:
    [found] = spoiled("dkim-sign yes", "dkim-sign yes\ndk-sign yes")

    assert found.text.startswith("dk-sign is obsolete and not obeyed: DomainKeys (RFC 4870) gave way to DKIM")
    assert found.hint == "write dkim-sign"
    assert spoiled("dkim-sign yes", "dkim-sign yes\ndk-sign no") == []


def test_more_connections_than_memory_are_reported() -> None:
    [found] = warnings(SOUND, Machine(file_limit=65536, memory=256 << 20))

    assert "MB" in found.text


def test_unlimited_connections_are_reported() -> None:
    [found] = spoiled("total-max-smtp-out 500", "total-max-smtp-out 0")

    assert "unlimited" in found.text


def test_queue_with_more_connections_than_the_server_is_reported() -> None:
    [found] = spoiled("max-smtp-out 20", "max-smtp-out 501")

    assert "more than total-max-smtp-out 500" in found.text


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("retry-after 10m,30m", "retry-after 59s,30m"),
        ("retry-after 10m,30m", "retry-after 0"),
        ("retry-recipients-after 10m", "retry-recipients-after 5s"),
    ],
)
def test_first_retry_within_a_minute_is_reported(old: str, new: str) -> None:
    [found] = spoiled(old, new)

    assert "the first retry comes after" in found.text


def test_first_retry_after_a_minute_is_fine() -> None:
    assert spoiled("retry-after 10m,30m", "retry-after 60s,30m") == []


def test_staying_root_is_reported() -> None:
    [found] = spoiled("process-user mta\n", "run-as-root yes\n")

    assert "would stay root" in found.text


@pytest.mark.parametrize("line", ["process-user nobody-here\n", ""])
def test_root_without_a_user_to_become_is_reported(line: str) -> None:
    root = Machine(file_limit=65536, memory=16 << 30, is_root=True, has_user=lambda _name: False)

    [found] = spoiled("process-user mta\n", line, root)

    assert "has no user" in found.text


@pytest.mark.parametrize("line", ["process-user mta", "run-as-root no", ""])
def test_root_with_a_user_to_become_is_fine(line: str) -> None:
    root = Machine(file_limit=65536, memory=16 << 30, is_root=True, has_user=lambda name: name == "mta")

    assert spoiled("process-user mta", line, root) == []


def test_plain_user_needs_nobody_to_become() -> None:
    plain = Machine(file_limit=65536, memory=16 << 30, has_user=lambda _name: False)

    assert warnings(SOUND, plain) == []


@pytest.mark.parametrize("network", ["0/0", "::/0", "*"])
def test_open_relay_is_reported_at_the_line_that_opens_it(network: str) -> None:
    [found] = warnings(SOUND + f"<source {network}>\nalways-allow-relaying yes\n</source>\n")

    assert "open relay" in found.text
    assert found.line > SOUND.count("\n")


def test_relay_for_everybody_with_a_login_is_fine() -> None:
    block = "<source 0/0>\nalways-allow-relaying yes\nrequire-auth yes\n</source>\n"
    block += "<smtp-user app>\npassword secret\n</smtp-user>\n"

    assert warnings(SOUND + block) == []


def test_relay_that_a_listeners_source_opens_is_reported() -> None:
    text = SOUND.replace("127.0.0.1:25\n", "127.0.0.1:25 source=open\n")

    [found] = warnings(text + "<source open>\nalways-allow-relaying yes\n</source>\n")

    assert "open relay" in found.text


@pytest.mark.parametrize("right", ["admin", "monitor", "operator,deny-logs"])
def test_monitor_open_to_everybody_is_reported(right: str) -> None:
    found = warnings(SOUND + f"http-access 0/0 {right}\n")

    assert any("anybody who reaches the monitor" in problem.text for problem in found)


def test_monitor_closed_to_everybody_else_is_fine() -> None:
    found = warnings(SOUND + "http-access 10/8 admin\nhttp-access 0/0 none\n")

    assert not any("anybody" in problem.text for problem in found)


def test_mail_without_any_key_is_reported() -> None:
    [found] = spoiled("domain-key s1,*,/etc/mta/s1.pem\n", "")

    assert "no domain-key" in found.text


def test_virtual_mta_without_a_key_beside_one_with_a_key_is_reported() -> None:
    second = "<virtual-mta v2>\nsmtp-source-host 192.0.2.11 out2.example.com\n</virtual-mta>\n"
    text = SOUND.replace("domain-key s1,*,/etc/mta/s1.pem\n", "").replace(
        "<virtual-mta v1>", second + "<virtual-mta v1>\ndomain-key s1,*,/etc/mta/s1.pem"
    )

    [found] = warnings(text)

    assert "virtual MTA v2 has no domain-key" in found.text


@pytest.mark.parametrize("name", ["localhost", "mail", "192.0.2.1", "mail.lan", "mail.localdomain"])
def test_name_that_no_receiver_can_look_up_is_reported(name: str) -> None:
    [found] = spoiled("out1.example.com", name)

    assert f"host name {name}" in found.text


def test_missing_host_name_is_reported() -> None:
    [found] = spoiled("host-name mail.example.com\n", "")

    assert "no host-name" in found.text


def test_address_that_the_machine_does_not_have_is_reported() -> None:
    machine = Machine(file_limit=65536, memory=16 << 30, has_address=lambda ip: ip != "192.0.2.10")

    [found] = warnings(SOUND, machine)

    assert "192.0.2.10 is not an address of this machine" in found.text


def test_this_machine_has_its_own_loopback_and_no_documentation_address() -> None:
    here = Machine.here()

    assert here.has_address("127.0.0.1")
    assert not here.has_address("192.0.2.10")
    assert here.memory > 0


def test_warnings_come_in_the_order_of_the_lines() -> None:
    found = warnings(
        "spool /s\nretry-after 1s\n<domain x.example>\nretry-after 2s\nuse-dane yes\n</domain>\n"
    )

    assert [problem.line for problem in found] == sorted(problem.line for problem in found)
    assert len(found) >= 5


def test_keys_that_sign_nothing_are_reported() -> None:
    [found] = spoiled("    dkim-sign yes\n", "")

    assert "nothing is signed" in found.text


def test_keys_that_sign_for_some_domains_are_fine() -> None:
    text = SOUND.replace("    dkim-sign yes\n", "") + "<domain example.org>\ndkim-sign yes\n</domain>\n"

    assert warnings(text) == []


def test_server_that_nobody_may_send_through_is_reported() -> None:
    [found] = spoiled("always-allow-relaying yes", "always-allow-relaying no")

    assert "every recipient elsewhere is refused" in found.text


def test_server_that_only_receives_for_its_domains_is_fine() -> None:
    assert spoiled("always-allow-relaying yes\n</source>", "</source>\nrelay-domain example.com") == []


def test_login_that_nobody_has_is_reported() -> None:
    [found] = spoiled("always-allow-relaying yes", "always-allow-relaying yes\n    require-auth yes")

    assert "no <smtp-user>" in found.text


@pytest.mark.parametrize("age", ["0", "5m", "10m"])
def test_mail_that_expires_before_its_first_retry_is_reported(age: str) -> None:
    [found] = spoiled("    dkim-sign yes", f"    dkim-sign yes\n    bounce-after {age}")

    assert "expires before its first retry after 600 s" in found.text


def test_age_is_compared_with_the_waits_of_its_own_domain() -> None:
    block = "<domain x.example>\nretry-after 60s\nbounce-after 5m\n</domain>\n"

    assert warnings(SOUND + block) == []


def test_server_without_a_spool_could_not_start() -> None:
    [found] = spoiled("spool /var/spool/mta\n", "")

    assert found.severity is Severity.ERROR
    assert "no <spool>" in found.text


def test_missing_accounting_is_reported() -> None:
    [found] = spoiled("<acct-file /var/log/mta/acct.csv>\n</acct-file>\n", "")

    assert "no <acct-file>" in found.text


def test_password_that_everybody_can_read_is_reported_at_its_line() -> None:
    machine = Machine(is_open_to_all=lambda file: file.name == "<text>")

    [found] = warnings(SOUND + "<smtp-user app>\npassword secret\n</smtp-user>\n", machine)

    assert "every user can read this file" in found.text
    assert "secret" not in found.text
    assert found.line > SOUND.count("\n")


def test_private_key_that_everybody_can_read_is_reported_once() -> None:
    machine = Machine(is_open_to_all=lambda file: file.suffix == ".pem")

    [found] = warnings(SOUND, machine)

    assert "private key /etc/mta/s1.pem" in found.text


def test_this_machine_tells_open_files_from_closed_ones(tmp_path: Path) -> None:
    file = tmp_path / "key.pem"
    file.touch(mode=0o600)
    here = Machine.here()

    assert not here.is_open_to_all(file)
    file.chmod(0o644)
    assert here.is_open_to_all(file)
    assert not here.is_open_to_all(tmp_path / "missing")


def test_this_machine_knows_its_users() -> None:
    here = Machine.here()

    assert here.has_user("root")
    assert not here.has_user("nobody-has-this-name")


@pytest.mark.parametrize(
    ("lines", "line", "words"),
    [
        ("workers 2\n<worker 2>\ncpus 0\n</worker>", 3, "makes 3 workers: they are counted from 0"),
        ("workers 2\n<worker 7>\n</worker>", 1, "(workers 2: 0 to 1)"),
        ("workers 1\n<worker 1>\ncpus 0\n</worker>", 3, "(workers 1: 0)"),
    ],
)
def test_a_worker_beyond_the_number_of_workers_is_reported(lines: str, line: int, words: str) -> None:
    [found] = warnings(f"{lines}\n{SOUND}")

    assert found.line == line
    assert words in found.text


@pytest.mark.parametrize(
    "lines", ["workers 2\n<worker 1>", "workers auto\n<worker 9>", "workers 1\n<worker big>"]
)
def test_workers_that_were_counted_are_fine(lines: str) -> None:
    assert warnings(f"{lines}\ncpus 0\n</worker>\n{SOUND}") == []
