"""What is secret in a configuration: which values nothing that we print may show, and which files hold them.

Passwords stand in the configuration itself, private keys in files that it names. Whether others may read
those files is looked at in `exposed`.
"""

from __future__ import annotations

from typing import Final

__all__ = ["MASK", "is_secret", "key_file", "masked"]

#: What stands in place of a secret.
MASK: Final = "****"

#: Directives whose values are secret.
_SECRET: Final = frozenset(
    {"password", "auth-password", "http-api-key", "api-key", "access-token", "volume-audit-api-key"}
)
#: `FILE [PASSWORD]`: the file has a private key in it, and the rest of the line is secret.
_KEY_FILES: Final = frozenset({"smtp-server-tls-certificate", "tls-certificate", "smtp-client-certificate"})


def masked(name: str, text: str) -> str:
    """The text of the directive `name` as it may be shown."""
    if name in _SECRET:
        return MASK if text else text
    if name in _KEY_FILES:
        file, blank, password = _split(text)
        return f"{file} {MASK}" if blank and password else text
    return text


def is_secret(name: str) -> bool:
    """Whether the whole value of the directive `name` is secret."""
    return name in _SECRET


def key_file(name: str, text: str) -> str:
    """The file with a private key that the directive `name` leads to; "" when it names none."""
    return _split(text)[0].strip('"') if name in _KEY_FILES else ""


def _split(text: str) -> tuple[str, str, str]:
    """File, blank and password of `FILE [PASSWORD]`; the file may be quoted."""
    if text.startswith('"'):
        end = text.find('"', 1) + 1
        return (text[:end], text[end : end + 1], text[end + 1 :].strip()) if end else (text, "", "")
    file, blank, password = text.partition(" ")
    return file, blank, password.strip()
