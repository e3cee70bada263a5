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

from mta.config.settings import Settings
from mta.errors import ConfigError

__all__ = ["set_up_logging"]

PRIORITIES = {logging.DEBUG: 7, logging.INFO: 6, logging.WARNING: 4, logging.ERROR: 3, logging.CRITICAL: 2}


class _JournalFormatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        return f"<{PRIORITIES.get(record.levelno, 6)}>{super().format(record)}"


def set_up_logging(settings: Settings, environment: Mapping[str, str] = os.environ) -> None:
    """Send the root logger to `log-file`, or to standard error when there is none.

    Raises ConfigError when the file can't be written.
    """
    path = settings.text("log-file")
    try:
        # Reopens a file that was moved away, so SIGUSR1 and logrotate both work.
        handler: logging.Handler = WatchedFileHandler(path) if path else logging.StreamHandler(sys.stderr)
    except OSError as failure:
        raise ConfigError(f"log-file {path}: {failure.strerror or failure}") from None
    plain = "%(levelname)s %(name)s %(message)s"
    if not path and "JOURNAL_STREAM" in environment:
        handler.setFormatter(_JournalFormatter(plain))
    else:
        handler.setFormatter(logging.Formatter("%(asctime)s " + plain))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.INFO)
    # aiosmtpd logs every command at INFO; an operator reads accounting instead.
    logging.getLogger("mail").setLevel(logging.ERROR)
    logging.getLogger("mail.log").setLevel(logging.ERROR)
