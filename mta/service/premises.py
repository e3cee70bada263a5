"""The directories we live in: made by root where they are missing, owned by the service's account.

Fails with ConfigError that names the directive and the path.
"""

from __future__ import annotations

import os
from pathlib import Path

from mta.config.snapshot import Snapshot
from mta.errors import ConfigError
from mta.service.privileges import Account

__all__ = ["prepare_directories", "spool_directory"]


def spool_directory(snapshot: Snapshot) -> Path:
    """The spool that takes new mail: the first one configured. Raises ConfigError without one."""
    if not snapshot.spools:
        raise ConfigError("no spool is configured: add '<spool /var/spool/mta>'")
    return Path(snapshot.spools[0].path)


def prepare_directories(snapshot: Snapshot, account: Account) -> None:
    """Make spool, log and socket directories if they are missing.

    Mail is private: the spool is 0700. Directories that exist keep their mode, except that a spool open
    to others is refused.
    """
    spool = spool_directory(snapshot)
    _make(spool, 0o700, account, "spool")
    if spool.stat().st_mode & 0o022:
        raise ConfigError(f"spool {spool}: others may write here; chmod 0700 it first")
    for file in (*snapshot.acct_files, *snapshot.reject_files):
        if not file.target.startswith("|"):
            _make(Path(file.target).parent, 0o750, account, "acct-file")
        if finished := file.settings.path("move-to"):
            _make(finished, 0o750, account, "move-to")
    for directive in ("control-socket", "log-file"):
        if path := snapshot.top.text(directive):
            _make(Path(path).parent, 0o755, account, directive)


def _make(directory: Path, mode: int, account: Account, directive: str) -> None:
    if directory.is_dir():
        return
    try:
        directory.mkdir(mode=mode, parents=True)
        # mkdir's mode passes through the umask of whoever started us.
        os.chmod(directory, mode)
        account.own(directory)
    except OSError as failure:
        raise ConfigError(f"{directive} {directory}: {failure.strerror or failure}") from None
