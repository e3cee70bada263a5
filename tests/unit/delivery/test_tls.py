"""TLS policies, the contexts made of them, and names for SNI."""

from __future__ import annotations

import ssl
from pathlib import Path

import pytest

from mta.config.load import load_text
from mta.delivery.tls import TlsContexts, TlsPolicy, server_name
from mta.errors import ConfigError
from tests.support.certificates import make_certificate


def test_the_default_is_opportunistic_and_verifies_nobody() -> None:
    policy = TlsPolicy()
    context = TlsContexts().context(policy)

    assert policy.is_wanted
    assert not policy.require
    assert context.verify_mode is ssl.CERT_NONE
    assert not context.check_hostname


def test_equal_policies_share_one_context() -> None:
    contexts = TlsContexts()

    assert contexts.context(TlsPolicy()) is contexts.context(TlsPolicy())
    assert contexts.context(TlsPolicy()) is not contexts.context(TlsPolicy(require=True))
    assert repr(contexts) == "<TlsContexts: 2>"


def test_a_ca_file_means_that_certificate_and_name_are_checked(tmp_path: Path) -> None:
    context = TlsContexts().context(TlsPolicy(ca_file=str(make_certificate(tmp_path))))

    assert context.verify_mode is ssl.CERT_REQUIRED
    assert context.check_hostname


def test_versions_that_are_not_allowed_are_switched_off() -> None:
    context = TlsContexts().context(TlsPolicy(versions=frozenset({"1.2"})))

    for forbidden in (ssl.OP_NO_TLSv1, ssl.OP_NO_TLSv1_1, ssl.OP_NO_TLSv1_3):
        assert context.options & forbidden
    assert not context.options & ssl.OP_NO_TLSv1_2


@pytest.mark.parametrize(
    "policy",
    [
        TlsPolicy(ca_file="/nowhere/ca.pem"),
        TlsPolicy(client_certificate="/nowhere/client.pem"),
        TlsPolicy(ciphers="NO-SUCH-CIPHER"),
    ],
)
def test_settings_that_can_not_be_used_are_a_config_error(policy: TlsPolicy) -> None:
    with pytest.raises(ConfigError, match="can't be used"):
        TlsContexts().context(policy)


def test_a_client_certificate_is_loaded(tmp_path: Path) -> None:
    TlsContexts().context(TlsPolicy(client_certificate=str(make_certificate(tmp_path))))


@pytest.mark.parametrize(
    ("host", "name"),
    [
        ("mx.example.net", "mx.example.net"),
        ("mx.example.net.", "mx.example.net"),
        ("_odd.example.net", "_odd.example.net"),
        ("192.0.2.1", None),
        ("2001:db8::1", None),
        ("x" * 64 + ".example", None),
        ("a..b", None),
        ("", None),
        ("bücher.example", None),
        ("a." * 130 + "example", None),
    ],
)
def test_only_names_that_tls_can_carry_are_sent_as_sni(host: str, name: str | None) -> None:
    assert server_name(host) == name


def test_the_policy_follows_the_directives() -> None:
    loaded = load_text(
        "<domain *>\n"
        "  use-starttls no\n"
        "  require-starttls yes\n"
        "  smtp-tls-allow-tlsv1 yes\n"
        "  smtp-tls-allow-tlsv1.3 no\n"
        "  smtp-tls-ciphers HIGH\n"
        "</domain>\n"
    )
    assert loaded.snapshot is not None
    policy = TlsPolicy.from_settings(loaded.snapshot.effective("example.net", "v"))

    assert policy == TlsPolicy(
        use=False, require=True, versions=frozenset({"1.0", "1.1", "1.2"}), ciphers="HIGH"
    )
    assert policy.is_wanted
