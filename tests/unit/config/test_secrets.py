"""Secrets of a configuration: in no listing, error, log line or representation."""

from __future__ import annotations

from pathlib import Path

import pytest

from mta.cli.main import main
from mta.config.exposed import open_secrets
from mta.config.lint import Machine, lint
from mta.config.load import load, load_text
from mta.config.secrets import masked
from mta.delivery.policy import DeliveryPolicy

#: Every place where an operator writes one; the value is always the same.
PLANTED = "Pl4nted-S3cret"
TEXT = f"""
host-name mx.test
smtp-server-tls-certificate cert.pem {PLANTED}
smtp-listener 127.0.0.1:0
<smtp-user app>
    password {PLANTED}
</smtp-user>
<source 127.0.0.1>
    always-allow-relaying yes
</source>
<virtual-mta v>
    smtp-source-host 127.0.0.1 mx.test
</virtual-mta>
<domain relay.example>
    auth-username me
    auth-password {PLANTED}
</domain>
"""
#: Mistakes around a secret, each with its error or warning.
MISTAKES = (
    f"auth-pasword {PLANTED}",
    f"<smtp-user app>\npasword {PLANTED}\n</smtp-user>",
    f"<smtp-user app>\npassword {PLANTED} {PLANTED}\n</smtp-user>",
    f'<smtp-user app>\npassword "{PLANTED}\n</smtp-user>',
    f"password {PLANTED}",
    f"<domain x.example>\npassword {PLANTED}\n</domain>",
    f"<domain x.example>\nauth-password {PLANTED}\n",
    f"<smtp-user app>\nauthentication-method {PLANTED}x\n</smtp-user>".replace(PLANTED, "none"),
    f"<virtual-mta v>\nauth-password {PLANTED}\n</virtual-mta>",
    f"smtp-server-tls-certificate {PLANTED}.pem".replace(PLANTED, "gone"),
    f"smtp-server-tls-certificate gone.pem {PLANTED}",
    f"smtp-server-tls-certificate gone.pem {PLANTED} {PLANTED}",
)


@pytest.mark.parametrize("mistake", MISTAKES)
def test_no_error_quotes_a_secret(mistake: str, tmp_path: Path) -> None:
    file = tmp_path / "mta.conf"
    file.write_text(f"host-name mx.test\n{mistake}\n")

    for loaded in (load_text(f"host-name mx.test\n{mistake}\n"), load(file)):
        told = "\n".join(str(problem) for problem in (*loaded.problems, *lint(loaded.readable, Machine())))
        assert PLANTED not in told


def test_no_representation_shows_a_secret() -> None:
    loaded = load_text(TEXT)
    snapshot = loaded.snapshot
    assert snapshot is not None
    settings = snapshot.effective("relay.example", "v")
    assert settings.text("auth-password") == PLANTED

    shown = [
        *(repr(thing) for thing in (loaded, snapshot, settings, snapshot.written, snapshot.rules)),
        repr(snapshot.smtp_users),
        repr(snapshot.smtp_users["app"].settings),
        repr(snapshot.source("127.0.0.1")),
        repr(DeliveryPolicy.from_settings(settings)),
        repr(list(settings.in_force())),
        repr(list(snapshot.top.in_force())),
        repr(list(snapshot.smtp_users["app"].settings.in_force())),
    ]

    assert not [text for text in shown if PLANTED in text]
    assert "****" in shown[-1]


@pytest.mark.parametrize(
    "arguments",
    [
        ["show", "settings", "--all"],
        ["show", "settings", "relay.example/v", "--all"],
        ["show", "settings", "--source", "127.0.0.1", "--all"],
        ["show", "settings", "relay.example/v", "--json"],
        ["check"],
        ["check", "--json"],
    ],
)
def test_no_command_shows_a_secret(
    arguments: list[str], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "mta.conf"
    file.write_text(TEXT)
    (tmp_path / "cert.pem").write_text("")

    main([*arguments, "--config", str(file)])

    output, errors = capfd.readouterr()
    assert output
    assert PLANTED not in output + errors
    assert "auth-password  " not in output or "****" in output


@pytest.mark.parametrize(
    ("name", "text", "shown"),
    [
        ("password", "x y", "****"),
        ("password", "", ""),
        ("smtp-server-tls-certificate", "a.pem", "a.pem"),
        ("smtp-server-tls-certificate", "a.pem secret", "a.pem ****"),
        ("smtp-server-tls-certificate", '"a b.pem" secret', '"a b.pem" ****'),
        ("smtp-server-tls-certificate", '"a b.pem"', '"a b.pem"'),
        ("smtp-server-tls-certificate", '"open', '"open'),
        ("host-name", "mx.test", "mx.test"),
    ],
)
def test_masks(name: str, text: str, shown: str) -> None:
    assert masked(name, text) == shown


def test_files_with_secrets_that_everybody_can_read_are_named(tmp_path: Path) -> None:
    file = tmp_path / "mta.conf"
    file.write_text(TEXT)
    key = tmp_path / "cert.pem"
    key.write_text("")
    here = Machine.here()

    for mode, count in ((0o644, 4), (0o640, 0), (0o600, 0)):
        file.chmod(mode)
        key.chmod(mode)
        found = list(open_secrets(load(file).readable, here.is_open_to_all))
        assert len(found) == count
        assert PLANTED not in "".join(map(str, found))
    file.chmod(0o600)
    key.chmod(0o604)
    (only,) = open_secrets(load(file).readable, here.is_open_to_all)
    assert "cert.pem, which holds a private key" in only.text
    assert only.line == 3
