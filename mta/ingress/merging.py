"""PowerMTA's mail merge on the listener: XMRG, XDFN, XPRT and XACK.

    XMRG FROM:<a> [VERP]       instead of MAIL
    XDFN name=value ...        what the next RCPT gets; may be repeated
    RCPT TO:<b>
    XPRT n [LAST]              instead of DATA, once for each part of the template

A whole merge is one message on the disk: a template, and a few words for each recipient. Its parts count
into the memory that all arriving messages share.

After `XACK OFF` RCPT and XDFN are not answered; the first refusal is the answer to the next DATA or XPRT,
and the message is lost with it.
"""

from __future__ import annotations

import re
import ssl

from mta.errors import RemoteProtocolError
from mta.ingress import replies
from mta.ingress.connection import Mode
from mta.ingress.definitions import parse_definitions, wish_of
from mta.ingress.reception import Reception, Rules
from mta.ingress.submission import Submission, Wish
from mta.ingress.transactions import Transactions
from mta.smtp.data import TOO_BIG
from mta.smtp.reply import Reply

__all__ = ["Merging"]

_PART = re.compile(rb"([1-9][0-9]{0,3})(?: +(LAST))?\Z", re.IGNORECASE)

_MERGE_FIRST = Reply(503, "5.5.1 Send XMRG first", "5.5.1")
_ONLY_PARTS = Reply(503, "5.5.1 A mail merge takes XPRT", "5.5.1")
_XPRT_SYNTAX = Reply(501, "5.5.4 Syntax: XPRT number [LAST], one after the other from 1", "5.5.4")
_XACK_SYNTAX = Reply(501, "5.5.4 Syntax: XACK ON or XACK OFF", "5.5.4")
_NO_SUCH_PART = Reply(554, "5.5.4 *parts names a part that was not sent", "5.5.4")
_NO_MEMORY = Reply(452, "4.3.1 Too many messages are arriving at once, try again later", "4.3.1")


class _Merge:
    """One merge under way."""

    __slots__ = ("defined", "is_last", "parts", "wishes")

    def __init__(self) -> None:
        self.defined: dict[bytes, bytes] = {}
        self.wishes: list[Wish] = []
        self.parts: list[bytes] = []
        self.is_last = False

    @property
    def size(self) -> int:
        return sum(map(len, self.parts))


class Merging(Transactions):
    """Transactions that may be mail merges."""

    __slots__ = ("_is_silent", "_merge", "_parts_held", "_withheld")

    def __init__(
        self, reception: Reception, *, source_name: str = "", tls: ssl.SSLContext | None = None
    ) -> None:
        super().__init__(reception, source_name=source_name, tls=tls)
        self._merge: _Merge | None = None
        self._parts_held = 0
        self._is_silent = False
        self._withheld: bytes = b""

    # ---- commands

    def on_xmrg(self, argument: bytes) -> None:
        if not self.policy.allow_mailmerge:
            self.fault(replies.NOT_IMPLEMENTED)
            return
        self.on_mail(argument)
        if self.originator is not None and self._merge is None and not self.has_recipients:
            self._merge = _Merge()
            self.takes_short_cut = False

    def on_xdfn(self, argument: bytes) -> None:
        if not self.policy.allow_mailmerge:
            self.fault(replies.NOT_IMPLEMENTED)
            return
        mark = len(self._out)
        if self._merge is None:
            self.fault(_MERGE_FIRST)
        else:
            try:
                parse_definitions(argument, self._merge.defined)
            except RemoteProtocolError as error:
                text = str(error)
                self.fault(Reply(error.reply_code, text, text.partition(" ")[0]))
            else:
                self.reply(replies.OK)
        self._hush(mark)

    def on_rcpt(self, argument: bytes) -> None:
        mark = len(self._out)
        super().on_rcpt(argument)
        if self._merge is not None:
            self._merge.defined = {}
        self._hush(mark)

    def add_recipient(self, address: str, notify: int, orcpt: str) -> None:
        super().add_recipient(address, notify, orcpt)
        if self._merge is not None:
            self._merge.wishes.append(wish_of(self._merge.defined))

    def on_xack(self, argument: bytes) -> None:
        if not self.policy.allow_mailmerge:
            self.fault(replies.NOT_IMPLEMENTED)
        elif argument.upper() not in (b"ON", b"OFF"):
            self.fault(_XACK_SYNTAX)
        else:
            self._is_silent = argument.upper() == b"OFF"
            self.renew(self.rules)
            self.idle(replies.OK)

    def on_data(self, argument: bytes) -> None:
        if self._tell_withheld():
            return
        if self._merge is not None:
            self.fault(_ONLY_PARTS)
        else:
            super().on_data(argument)

    def on_bdat(self, argument: bytes) -> None:
        if self._merge is not None or self._withheld:
            # The octets behind it can't be told from commands by somebody who doesn't want them.
            self.close(_ONLY_PARTS)
        else:
            super().on_bdat(argument)

    def on_xprt(self, argument: bytes) -> None:
        merge = self._merge
        match = _PART.match(argument)
        if not self.policy.allow_mailmerge:
            self.fault(replies.NOT_IMPLEMENTED)
        elif self._tell_withheld():
            return
        elif merge is None:
            self.fault(_MERGE_FIRST)
        elif match is None or int(match[1]) != len(merge.parts) + 1:
            self.fault(_XPRT_SYNTAX)
        elif not self.has_recipients:
            self.fault(replies.NO_RECIPIENTS)
        elif self._has_too_many:
            self.clear()
            self.fault(replies.TOO_MANY_FAIL)
        else:
            merge.is_last = match[2] is not None
            self.begin_content(Mode.DATA, self._data_reader)
            self.say(replies.GO_AHEAD)

    # ---- content

    def take_content(self) -> None:
        merge = self._merge
        reader = self.reader
        if merge is None or reader.refusal is not None:
            super().take_content()
            return
        self.mode = Mode.COMMANDS
        part = b"".join(reader.chunks)
        is_8bit = reader.is_8bit
        self.release()
        merge.parts.append(part)
        self._parts_held += len(part)
        self.reception.receiving += len(part)
        refusal = self._refusal(merge)
        if refusal is not None:
            self._log_refusal(refusal)
            self.clear()
            self.fault(refusal)
        elif merge.is_last:
            self._submit(merge, is_8bit=is_8bit)
        else:
            self.say(b"250 2.0.0 part %d received\r\n" % len(merge.parts))

    def _refusal(self, merge: _Merge) -> Reply | None:
        """Why the merge can't go on."""
        if merge.size > self.max_size:
            return TOO_BIG
        if self.reception.receiving > self.reception.receive_memory:
            return _NO_MEMORY
        if merge.is_last and any(
            wish.personal is not None and max(wish.personal.parts, default=0) > len(merge.parts)
            for wish in merge.wishes
        ):
            return _NO_SUCH_PART
        return None

    def _submit(self, merge: _Merge, *, is_8bit: bool) -> None:
        parameters = self._parameters
        has_8bit_values = not all(
            value.isascii()
            for wish in merge.wishes
            if wish.personal is not None
            for value in wish.personal.variables.values()
        )
        self.mode = Mode.WAITING
        self.reception.acceptance.accept(
            Submission(
                self.originator or "",
                self._recipients,
                list(merge.parts),
                merge.size,
                self.policy,
                self._clients[parameters.is_smtputf8],
                "smtp",
                parameters.is_8bit or is_8bit or has_8bit_values or not b"".join(merge.parts).isascii(),
                parameters.is_smtputf8,
                parameters.ret,
                parameters.envelope_id,
                wants_verp=parameters.wants_verp,
                condemned=self._condemned,
                wishes=merge.wishes,
                parts=[len(part) for part in merge.parts],
            ),
            self.accepted,
        )

    # ---- state

    def forget(self) -> None:
        self._withheld = b""
        if self._merge is not None:
            self._merge = None
            self.reception.receiving -= self._parts_held
            self._parts_held = 0
            self.renew(self.rules)

    def connection_lost(self, error: Exception | None) -> None:
        if self.mode is not Mode.WAITING:
            # What waits for the disk is given back by `accepted`.
            self.reception.receiving -= self._parts_held
            self._parts_held = 0
        super().connection_lost(error)

    def renew(self, rules: Rules) -> None:
        super().renew(rules)
        if self._is_silent or self._withheld or self._merge is not None:
            self.takes_short_cut = False

    def _hush(self, mark: int) -> None:
        """Keep back what was said since `mark`, if the client wants silence."""
        if not self._is_silent or self.mode is Mode.CLOSING:
            return
        said = b"".join(self._out[mark:])
        del self._out[mark:]
        if not said.startswith(b"2") and not self._withheld:
            self._withheld = said

    def _tell_withheld(self) -> bool:
        """Say what was kept back and drop the transaction; False when there is nothing to say."""
        if not self._withheld:
            return False
        words = self._withheld
        self.clear()
        self.say(words)
        return True
