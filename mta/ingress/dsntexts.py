"""The operator's words for DSNs, read from the configuration and the file it names."""

from __future__ import annotations

import logging

from mta.config.snapshot import Snapshot
from mta.message.wording import Wording, unknown_variables

__all__ = ["read_wording"]

log = logging.getLogger(__name__)

#: A template is a letter, not a book (octets).
BODY_LIMIT = 64 * 1024


def read_wording(snapshot: Snapshot) -> Wording:
    """The templates of a configuration; a file that can't be read leaves our own words in place."""
    top = snapshot.top
    wording = Wording(
        top.text("custom-dsn-from-header"),
        top.text("dsn-failed-from-template"),
        top.text("dsn-failed-subject-template"),
        _body(snapshot),
    )
    for template in (wording.failed_sender, wording.failed_subject, wording.failed_body):
        if strange := unknown_variables(template):
            log.warning("event=unknown-variables names=%s they stand for nothing", ",".join(strange))
    return wording


def _body(snapshot: Snapshot) -> str:
    path = snapshot.top.path("dsn-failed-body-template-from")
    if path is None:
        return ""
    try:
        with path.open("rb") as file:
            return file.read(BODY_LIMIT).decode("utf-8", "replace")
    except OSError as error:
        log.error("dsn-failed-body-template-from %s: %s; our own words are used", path, error.strerror)
        return ""
