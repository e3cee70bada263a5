"""Who may log in: the `<smtp-user>`s of a configuration, and who has guessed too often.

A wrong name and a wrong password take the same time and get the same answer. The exchange itself (PLAIN and
LOGIN over base64) is aiosmtpd's; see `conversation`.
"""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import secrets

from mta.config.snapshot import Snapshot
from mta.config.units import Rate

__all__ = ["Lockout", "Logins"]

#: Clients remembered by their failures; beyond it the oldest are forgotten.
_REMEMBERED = 10_000


class Logins:
    """The logins of one configuration. Passwords are kept as salted digests, so that a dump shows none."""

    def __init__(self, snapshot: Snapshot) -> None:
        self._salt = secrets.token_bytes(16)
        self._known: dict[str, tuple[bytes, str]] = {}
        for user in snapshot.smtp_users.values():
            settings = user.settings
            password = settings.text("password")
            if settings.text("authentication-method") == "password" and password:
                self._known[user.name] = (self._digest(password.encode("utf-8")), settings.text("source"))
        self._nobody = (secrets.token_bytes(32), "")

    def __bool__(self) -> bool:
        return bool(self._known)

    def check(self, name: bytes, password: bytes) -> tuple[str, str] | None:
        """The login's name and `<source>` when the password is right, else None."""
        login = name.decode("utf-8", "replace")
        expected, source = self._known.get(login, self._nobody)
        if hmac.compare_digest(self._digest(password), expected):
            return login, source
        return None

    def known(self, name: bytes) -> str:
        """The name when somebody has it; "" otherwise: what was typed there may be a password."""
        login = name.decode("utf-8", "replace")
        return login if login in self._known else ""

    def _digest(self, password: bytes) -> bytes:
        return hashlib.sha256(self._salt + password).digest()


class Lockout:
    """Failed logins by client; an IPv6 client is its /64, because it owns all of it.

    The lock runs from the first failure (smtp-max-auth-failure-rate). Where several processes take logins,
    each of `parts` allows its part of the failures, so that a client that tries them all has no more.
    """

    def __init__(self) -> None:
        self.parts = 1
        self._failures: dict[str, tuple[float, int]] = {}

    def is_locked(self, ip: str, rate: Rate | None, now: float) -> bool:
        """Whether this client has had its failures for now."""
        if rate is None:
            return False
        first, count = self._failures.get(_client(ip), (0.0, 0))
        return count >= max(1, rate[0] // self.parts) and now < first + rate.per

    def failed(self, ip: str, rate: Rate | None, now: float) -> None:
        """Count one more failure."""
        if rate is None:
            return
        client = _client(ip)
        first, count = self._failures.pop(client, (now, 0))
        if now >= first + rate.per:
            first, count = now, 0
        if len(self._failures) >= _REMEMBERED:
            del self._failures[next(iter(self._failures))]
        self._failures[client] = (first, count + 1)

    def __len__(self) -> int:
        return len(self._failures)


def _client(ip: str) -> str:
    if ":" not in ip:
        return ip
    try:
        return str(ipaddress.IPv6Network((ip.partition("%")[0], 64), strict=False))
    except ValueError:
        return ip
