"""Enhanced status codes (RFC 3463 and the IANA registry): reading them, choosing them, saying them in words.

Pure. Not a classifier: what a code means for the queue is decided elsewhere. The words are those that
accounting prints behind the code: "5.1.1 (bad destination mailbox address)".
"""

from __future__ import annotations

from functools import lru_cache

__all__ = ["consistent", "describe", "find_enhanced", "implied"]

_UNDEFINED = "undefined status"

#: subject.detail → words; RFC 3463 part 3, then the registry's later entries.
_WORDS = {
    "0.0": _UNDEFINED,
    "1.0": "other address status",
    "1.1": "bad destination mailbox address",
    "1.2": "bad destination system: no such domain",
    "1.3": "bad destination mailbox address syntax",
    "1.4": "destination mailbox address ambiguous",
    "1.5": "destination address valid",
    "1.6": "destination mailbox has moved",
    "1.7": "bad sender's mailbox address syntax",
    "1.8": "bad sender's system address",
    "1.9": "message relayed to non-compliant mailer",
    "1.10": "recipient address has null MX",
    "2.0": "other or undefined mailbox status",
    "2.1": "mailbox disabled, not accepting messages",
    "2.2": "mailbox full",
    "2.3": "message length exceeds administrative limit",
    "2.4": "mailing list expansion problem",
    "3.0": "other or undefined mail system status",
    "3.1": "mail system full",
    "3.2": "system not accepting network messages",
    "3.3": "system not capable of selected features",
    "3.4": "message too big for system",
    "3.5": "system incorrectly configured",
    "3.6": "requested priority was changed",
    "4.0": "other or undefined network or routing status",
    "4.1": "no answer from host",
    "4.2": "bad connection",
    "4.3": "directory server failure",
    "4.4": "unable to route",
    "4.5": "mail system congestion",
    "4.6": "routing loop detected",
    "4.7": "delivery time expired",
    "5.0": "other or undefined protocol status",
    "5.1": "invalid command",
    "5.2": "syntax error",
    "5.3": "too many recipients",
    "5.4": "invalid command arguments",
    "5.5": "wrong protocol version",
    "5.6": "authentication exchange line is too long",
    "6.0": "other or undefined media error",
    "6.1": "media not supported",
    "6.2": "conversion required and prohibited",
    "6.3": "conversion required but not supported",
    "6.4": "conversion with loss performed",
    "6.5": "conversion failed",
    "6.6": "message content not available",
    "6.7": "non-ASCII addresses not permitted for that sender or recipient",
    "6.8": "UTF-8 string reply is required, but not permitted by the client",
    "6.9": "UTF-8 header message cannot be transferred",
    "6.11": "invalid line ending in message content",
    "7.0": "other or undefined security status",
    "7.1": "delivery not authorized",
    "7.2": "mailing list expansion prohibited",
    "7.3": "security conversion required but not possible",
    "7.4": "security features not supported",
    "7.5": "cryptographic failure",
    "7.6": "cryptographic algorithm not supported",
    "7.7": "message integrity failure",
    "7.8": "authentication credentials invalid",
    "7.9": "authentication mechanism is too weak",
    "7.10": "encryption needed",
    "7.11": "encryption required for requested authentication mechanism",
    "7.12": "a password transition is needed",
    "7.13": "user account disabled",
    "7.14": "trust relationship required",
    "7.15": "priority level is too low",
    "7.16": "message is too big for the specified priority",
    "7.17": "mailbox owner has changed",
    "7.18": "domain owner has changed",
    "7.19": "RRVS test cannot be completed",
    "7.20": "no passing DKIM signature found",
    "7.21": "no acceptable DKIM signature found",
    "7.22": "no valid author-matched DKIM signature found",
    "7.23": "SPF validation failed",
    "7.24": "SPF validation error",
    "7.25": "reverse DNS validation failed",
    "7.26": "multiple authentication checks failed",
    "7.27": "sender address has null MX",
    "7.28": "mail flood detected",
    "7.29": "ARC validation failure",
    "7.30": "REQUIRETLS support required",
}

#: By subject, for details that no list knows.
_SUBJECTS = {
    "0": _UNDEFINED,
    "1": "other address status",
    "2": "other or undefined mailbox status",
    "3": "other or undefined mail system status",
    "4": "other or undefined network or routing status",
    "5": "other or undefined protocol status",
    "6": "other or undefined media error",
    "7": "other or undefined security status",
}

#: What a bare reply code says (RFC 5321 4.2.2 read with RFC 3463); the rest is x.0.0.
_IMPLIED = {
    421: "4.3.2",
    452: "4.3.1",
    500: "5.5.2",
    501: "5.5.4",
    502: "5.5.1",
    503: "5.5.1",
    504: "5.5.4",
    521: "5.3.2",
    523: "5.3.4",
    530: "5.7.0",
    534: "5.7.9",
    535: "5.7.8",
    538: "5.7.11",
    552: "5.2.2",
    556: "5.1.10",
}

#: The enhanced codes with one digit in each place: nearly all that are ever seen.
_SHORT = frozenset(
    f"{kind}.{subject}.{detail}" for kind in "245" for subject in "0123456789" for detail in "0123456789"
)


def describe(code: str) -> str:
    """The code with its meaning in brackets, as accounting prints it; "" stays ""."""
    if not code:
        return ""
    kind, _, rest = code.partition(".")
    if kind == "2" and rest == "0.0":
        return "2.0.0 (success)"
    words = _WORDS.get(rest) or _SUBJECTS.get(rest.partition(".")[0], _UNDEFINED)
    return f"{code} ({words})"


def find_enhanced(text: str) -> str:
    """The enhanced code that `text` begins with, or "" (class 2, 4 or 5; at most three digits a part)."""
    # Hand-made instead of a pattern: this runs for every reply line, and almost always says "2.x.y" at once.
    if text[5:6] == " " and (short := text[:5]) in _SHORT:
        return short
    if text[1:2] != "." or text[0] not in "245":
        return ""
    end = text.find(" ")
    code = (text if end < 0 else text[:end]) if end < 10 else ""
    parts = code.split(".")
    if len(parts) != 3 or not code.isascii():
        return ""
    _, subject, detail = parts
    if 0 < len(subject) <= 3 and 0 < len(detail) <= 3 and subject.isdigit() and detail.isdigit():
        return code
    return ""


def implied(reply_code: int) -> str:
    """The enhanced code for a reply that carries none."""
    return _IMPLIED.get(reply_code) or f"{reply_code // 100}.0.0"


@lru_cache(maxsize=1024)
def consistent(reply_code: int, enhanced: str) -> str:
    """The enhanced code to record: the server's when its class fits the reply, else the one implied.

    Receivers do answer "450 5.7.1": the basic code decides (RFC 3463 2), so that a temporary
    error is always 4.x.x and a permanent one always 5.x.x.
    """
    if not enhanced:
        return implied(reply_code)
    kind = str(reply_code // 100)
    if enhanced[0] == kind:
        return enhanced
    return kind + enhanced[1:] if kind in "45" and enhanced[0] in "45" else implied(reply_code)
