"""Where the program's own log goes. Accounting is not logging; the hot path logs nothing.

Lines are key=value. Under systemd they carry `<N>` priorities, which the journal understands; a terminal
or `log-file` gets a time stamp instead.
"""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Mapping
from logging.handlers import WatchedFileHandler
from pathlib import Path

from mta.config.settings import Settings
from mta.errors import ConfigError

__all__ = ["rotate_log", "set_up_logging"]

log = logging.getLogger(__name__)

PRIORITIES = {logging.DEBUG: 7, logging.INFO: 6, logging.WARNING: 4, logging.ERROR: 3, logging.CRITICAL: 2}


class _JournalFormatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        return f"<{PRIORITIES.get(record.levelno, 6)}>{super().format(record)}"


def set_up_logging(settings: Settings, environment: Mapping[str, str] = os.environ) -> None:
    """Send the root logger to `log-file`, or to standard error when there is none.

    Errors are said on standard error in any case: who starts the server by hand, or looks into the journal
    after a start that failed, must not have to know of the file.

    Raises ConfigError when the file can't be written.
    """
    path = settings.text("log-file")
    plain = "%(levelname)s %(name)s %(message)s"
    stamped = logging.Formatter("%(asctime)s " + plain)
    spoken: logging.Handler = logging.StreamHandler(sys.stderr)
    spoken.setFormatter(_JournalFormatter(plain) if "JOURNAL_STREAM" in environment else stamped)
    handlers = [spoken]
    if path:
        try:
            # Reopens a file that was moved away, so SIGUSR1 and logrotate both work.
            kept = WatchedFileHandler(path)
        except OSError as failure:
            raise ConfigError(f"log-file {path}: {failure.strerror or failure}") from None
        kept.setFormatter(stamped)
        spoken.setLevel(logging.ERROR)
        handlers = [kept, spoken]
    root = logging.getLogger()
    root.handlers[:] = handlers
    root.setLevel(logging.INFO)
    # aiosmtpd logs every command at INFO; an operator reads accounting instead.
    logging.getLogger("mail").setLevel(logging.ERROR)
    logging.getLogger("mail.log").setLevel(logging.ERROR)


def rotate_log(settings: Settings) -> Path:
    """Begin a new `log-file`: what was written becomes NAME.1, older ones count up, and `log-rotate` files
    are kept, the current one included. All processes follow with their next line. Returns the file.

    Raises ConfigError when there is nothing of ours to rotate, OSError when the files can't be moved.
    """
    name, kept = settings.text("log-file"), settings.integer("log-rotate")
    if not name:
        raise ConfigError("the log goes to standard error: there is no log-file to rotate")
    if kept < 1:
        raise ConfigError("log-rotate 0 leaves the rotation of the log to others")
    path = Path(name)
    numbered = [path, *(path.with_name(f"{path.name}.{number}") for number in range(1, kept))]
    for older, newer in zip(reversed(numbered[1:]), reversed(numbered[:-1]), strict=True):
        if newer.exists():
            newer.replace(older)
    path.unlink(missing_ok=True)
    log.info("event=log-rotated")
    return path
