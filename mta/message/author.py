"""Who a message says it is from: the domain that a signature has to stand for.

Reads the address lists of From and Sender (RFC 5322 3.6.2, with UTF-8 by RFC 6532) just far enough to find
the first domain. Not an address parser: nothing is checked, and nothing fails.
"""

from __future__ import annotations

from mta.message import headers
from mta.smtp.address import to_ace

__all__ = ["author_domain", "author_places", "first_domain"]


def author_domain(block: bytes) -> str:
    """The domain of Sender, else of From, in lower case and ACE; "" when neither has one."""
    lowered = block.lower()
    for name in (b"sender", b"from"):
        at = headers.find(lowered, name)
        if at >= 0:
            domain = first_domain(headers.value_at(block, at))
            if domain:
                return domain
    return ""


def author_places(names: tuple[bytes, ...]) -> list[int]:
    """The places of the first Sender and the first From among the names of a message's fields: all of it
    that `author_domain` looks at."""
    lowered = [name.rstrip(b" ").lower() for name in names]
    return [lowered.index(name) for name in (b"sender", b"from") if name in lowered]


def first_domain(value: bytes) -> str:
    """The domain of the first address of a list, in lower case and ACE; "" when there is none."""
    text = value.decode("utf-8", "replace")
    if '"' in text or "(" in text:
        text = _plain(text)
    at = text.find("@")
    # A display name may hold an @ of its own only between quotes, which are gone; so the first one counts,
    # unless an angle bracket behind it on the same entry says that it was part of an unquoted name.
    bracket = text.find("<")
    comma = text.find(",")
    if bracket > at and (comma < 0 or bracket < comma):
        at = text.find("@", bracket)
    if at < 0:
        return ""
    end = at + 1
    while end < len(text) and text[end] not in " \t,;<>":
        end += 1
    return to_ace(text[at + 1 : end])


def _plain(text: str) -> str:
    """The text with quoted strings as one letter and without comments."""
    kept: list[str] = []
    depth = 0
    is_quoted = False
    characters = iter(text)
    for character in characters:
        if character == "\\":
            next(characters, "")
        elif is_quoted:
            is_quoted = character != '"'
        elif character == "(":
            depth += 1
        elif character == ")" and depth:
            depth -= 1
        elif depth == 0:
            is_quoted = character == '"'
            kept.append("q" if is_quoted else character)
    return "".join(kept)
