"""Root binds ports, makes directories and then goes: what is done with mail is done as a plain user.

Fails with ConfigError where the configuration and the machine disagree (an unknown user, root without
anybody to become).
"""

from __future__ import annotations

import grp
import os
import pwd
import resource
from dataclasses import dataclass
from pathlib import Path

from mta.config.settings import Settings
from mta.errors import ConfigError

__all__ = ["Account", "drop", "raise_file_limit", "service_account"]

#: Who we become when the configuration names nobody and the machine has such a user.
DEFAULT_USER = "mta"


@dataclass(frozen=True, slots=True)
class Account:
    """The user and group that the service runs as."""

    name: str
    uid: int
    gid: int

    def own(self, path: Path) -> None:
        """Hand a file or directory made by root to the account."""
        if os.geteuid() == 0:
            os.chown(path, self.uid, self.gid)


def service_account(settings: Settings) -> Account:
    """Whom to run as: `process-user`, root itself with `run-as-root yes`, else the user `mta`.

    Started by a plain user, that user stays. Raises ConfigError when root has nobody to become.
    """
    me = pwd.getpwuid(os.geteuid()) if _is_known(os.geteuid()) else None
    wanted = settings.text("process-user")
    if os.geteuid() != 0:
        if wanted and (me is None or wanted != me.pw_name):
            raise ConfigError(f"process-user {wanted}: only root can become another user")
        return Account(me.pw_name if me else str(os.geteuid()), os.geteuid(), os.getegid())
    if not wanted and settings.boolean("run-as-root"):
        return Account("root", 0, 0)
    try:
        entry = pwd.getpwnam(wanted or DEFAULT_USER)
    except KeyError:
        if wanted:
            raise ConfigError(f"process-user {wanted}: this machine has no such user") from None
        raise ConfigError(
            "started as root with nobody to become: add 'process-user NAME'"
            f" (or create the user '{DEFAULT_USER}'), or say 'run-as-root yes' if you mean it"
        ) from None
    return Account(entry.pw_name, entry.pw_uid, entry.pw_gid)


def drop(account: Account) -> None:
    """Become the account for good: groups first, then group, then user, and then check."""
    if os.geteuid() != 0 or account.uid == 0:
        return
    groups = [group.gr_gid for group in grp.getgrall() if account.name in group.gr_mem]
    os.setgroups([account.gid, *groups])
    os.setgid(account.gid)
    os.setuid(account.uid)
    if os.getuid() != account.uid or os.geteuid() != account.uid:
        raise ConfigError(f"could not become {account.name}")
    try:
        os.setuid(0)
    except PermissionError:
        return
    raise ConfigError(f"became {account.name} but could still become root again")


def raise_file_limit() -> int:
    """Lift the soft limit of open files to the hard one and return it: every connection is a file."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard


def _is_known(uid: int) -> bool:
    try:
        pwd.getpwuid(uid)
    except KeyError:
        return False
    return True
