"""TLS towards receivers: what the operator allows, and the contexts that say so to OpenSSL.

Opportunistic TLS (RFC 7435) encrypts where it can and verifies nobody: without a policy about the receiver a
certificate proves nothing, and refusing a bad one would only mean plain text. A CA file makes us verify; with
`require-starttls` a failure is then final for the connection, without it mail goes on in plain text.

One context per policy, made once: building one per connection is slow and fragments memory.
"""

from __future__ import annotations

import ssl
import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mta.errors import ConfigError

if TYPE_CHECKING:
    from mta.config.settings import Settings

__all__ = ["TlsContexts", "TlsPolicy", "server_name"]

#: TLS version → the option that forbids it.
_FORBID = {
    "1.0": ssl.OP_NO_TLSv1,
    "1.1": ssl.OP_NO_TLSv1_1,
    "1.2": ssl.OP_NO_TLSv1_2,
    "1.3": ssl.OP_NO_TLSv1_3,
}


@dataclass(frozen=True, slots=True)
class TlsPolicy:
    """The TLS directives of one queue. `versions` are the TLS versions that may be spoken."""

    use: bool = True
    require: bool = False
    versions: frozenset[str] = frozenset({"1.1", "1.2", "1.3"})
    ciphers: str = "HIGH:!ADH:@STRENGTH"
    ca_file: str = ""
    client_certificate: str = ""

    @classmethod
    def from_settings(cls, settings: Settings) -> TlsPolicy:
        """Read use-starttls, require-starttls and the smtp-tls-* directives."""
        allowed = {
            version: settings.boolean(f"smtp-tls-allow-tlsv{version.removesuffix('.0')}")
            for version in _FORBID
        }
        return cls(
            use=settings.boolean("use-starttls"),
            require=settings.boolean("require-starttls"),
            versions=frozenset(version for version, is_allowed in allowed.items() if is_allowed),
            ciphers=settings.text("smtp-tls-ciphers"),
            ca_file=settings.text("smtp-tls-ca-file"),
            client_certificate=settings.text("smtp-client-certificate"),
        )

    @property
    def is_wanted(self) -> bool:
        """Whether STARTTLS is used where it is offered."""
        return self.use or self.require


class TlsContexts:
    """The contexts in use, one per policy."""

    def __init__(self) -> None:
        self._contexts: dict[TlsPolicy, ssl.SSLContext] = {}

    def context(self, policy: TlsPolicy) -> ssl.SSLContext:
        """The context for `policy`; raises ConfigError when its files or ciphers can't be used."""
        context = self._contexts.get(policy)
        if context is None:
            context = self._contexts[policy] = _build(policy)
        return context

    def __repr__(self) -> str:
        return f"<TlsContexts: {len(self._contexts)}>"


def server_name(host: str) -> str | None:
    """The name to send as SNI (RFC 6066 3): a DNS name; None for addresses and names that TLS can't carry."""
    name = host.rstrip(".")
    if not name.isascii() or ":" in name or name.replace(".", "").isdigit() or len(name) > 253:
        return None
    return name if all(0 < len(label) <= 63 for label in name.split(".")) else None


def _build(policy: TlsPolicy) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = bool(policy.ca_file)
    context.verify_mode = ssl.CERT_REQUIRED if policy.ca_file else ssl.CERT_NONE
    with warnings.catch_warnings():
        # Old versions are deprecated, and rightly; to a server that has nothing else they beat plain text.
        warnings.simplefilter("ignore", DeprecationWarning)
        context.minimum_version = ssl.TLSVersion.MINIMUM_SUPPORTED
        for version, option in _FORBID.items():
            if version not in policy.versions:
                context.options |= option
    try:
        # Level 0: TLS 1.0 and 1.1 sign with SHA-1, which OpenSSL 3 refuses at any level above it.
        old = not policy.require and policy.versions & {"1.0", "1.1"}
        context.set_ciphers(policy.ciphers + (":@SECLEVEL=0" if old else ""))
        if policy.ca_file:
            context.load_verify_locations(cafile=policy.ca_file)
        if policy.client_certificate:
            context.load_cert_chain(policy.client_certificate)
    except (OSError, ssl.SSLError) as error:
        raise ConfigError(f"TLS settings for receivers can't be used: {error}") from error
    return context
