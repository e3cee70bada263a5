"""Copies of what was delivered, for the address that `bcc-upon-delivery` gives.

A copy enters like other mail, through the virtual MTA of its message. Nobody hears what becomes of it, and
it is never copied again. A crash between a delivery and its copy costs the copy.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

from mta.config.snapshot import DEFAULT_VMTA
from mta.errors import SpoolError
from mta.ingress.joint import AcceptResult
from mta.ingress.relaying import SourcePolicy
from mta.ingress.submission import Submission
from mta.message.envelope import Envelope, Notify
from mta.message.personal import personal_content

__all__ = ["COPY", "Copies"]

log = logging.getLogger(__name__)

#: Where a copy comes from, as its envelope says.
COPY = "bcc"

_POLICY = SourcePolicy(allow_relaying=True, add_received=False, reject_invalid_vmta=False)


class Copies:
    """Makes copies for one worker. `load` gives a stored message in wire form or raises SpoolError."""

    def __init__(
        self,
        *,
        accept: Callable[[Submission, Callable[[AcceptResult], None]], None],
        load: Callable[[int], bytes],
    ) -> None:
        self._accept = accept
        self._load = load
        self.made = self.lost = 0

    def __call__(self, address: str, envelope: Envelope, index: int, message: int) -> None:
        """Send a copy of what the recipient `index` of a stored message has got. Never raises."""
        if envelope.source_type == COPY:
            return
        try:
            content = self._load(message)
        except SpoolError as error:
            self._failed(envelope, str(error))
            return
        if envelope.is_personal:
            content = personal_content(envelope, index, content)
        submission = Submission(
            envelope.originator,
            [(address, int(Notify.NEVER), "")],
            [content],
            len(content),
            _POLICY,
            source_type=COPY,
            is_8bit=envelope.is_8bit,
            is_smtputf8=envelope.is_smtputf8,
            job_id=envelope.job_id,
            vmta="" if envelope.vmta == DEFAULT_VMTA else envelope.vmta,
            suppress_dsn=True,
        )
        self._accept(submission, lambda result: self._taken(envelope, result))

    def _taken(self, envelope: Envelope, result: AcceptResult) -> None:
        if result.refusal is None:
            self.made += 1
        else:
            self._failed(envelope, str(result.refusal))

    def _failed(self, envelope: Envelope, why: str) -> None:
        self.lost += 1
        log.error("queue_id=%s event=not-copied reason=%r", envelope.queue_id, why)

    def __repr__(self) -> str:
        return f"<Copies made={self.made} lost={self.lost}>"
