"""Quotes, words, comma lists and regex literals inside one value.

A quoted string escapes a quote and a backslash with a backslash; any other backslash stands for itself, so
that regexes and Windows paths survive. Every function raises ValueError with a sentence for the operator.
"""

from __future__ import annotations

__all__ = ["quote", "read_quoted", "read_regex", "split_list", "split_words", "unquote"]


def read_quoted(text: str, start: int) -> tuple[str, int]:
    """The string whose opening quote is at `start`, and the index behind its closing quote."""
    out = []
    index = start + 1
    while index < len(text):
        char = text[index]
        if char == "\\" and text[index + 1 : index + 2] in ('"', "\\"):
            out.append(text[index + 1])
            index += 2
        elif char == '"':
            return "".join(out), index + 1
        else:
            out.append(char)
            index += 1
    raise ValueError("a quote is not closed on this line (a # starts a comment even between quotes)")


def unquote(text: str) -> str:
    """The value itself when it is one quoted string, else the text as it is."""
    if not text.startswith('"'):
        return text
    value, end = read_quoted(text, 0)
    return text if text[end:].strip() else value


def quote(value: str) -> str:
    """The text that `unquote` reads as `value`; quotes only where they are needed."""
    if value and not any(char.isspace() or char in '"\\' for char in value):
        return value
    escaped = value.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def split_words(text: str) -> tuple[str, ...]:
    """Words between white space; a quoted string is one word, also behind `name=`."""
    words: list[str] = []
    word: list[str] = []
    is_open = False
    index = 0
    while index < len(text):
        char = text[index]
        if char == '"' and (not word or word[-1] == "="):
            value, index = read_quoted(text, index)
            word.append(value)
            is_open = True
        elif char.isspace():
            if word or is_open:
                words.append("".join(word))
            word, is_open = [], False
            index += 1
        else:
            word.append(char)
            index += 1
    if word or is_open:
        words.append("".join(word))
    return tuple(words)


def split_list(text: str, separator: str = ",") -> tuple[str, ...]:
    """Entries between separators, without blanks around them; quoted ones unquoted, empty ones left out."""
    entries: list[str] = []
    start = index = 0
    while index <= len(text):
        if index == len(text) or text[index] == separator:
            entry = text[start:index].strip()
            if entry:
                entries.append(unquote(entry))
            start = index + 1
        elif text[index] == '"' and not text[start:index].strip():
            _value, end = read_quoted(text, index)
            index = end
            continue
        index += 1
    return tuple(entry for entry in entries if entry)


def read_regex(text: str) -> tuple[str, str]:
    """The regex of a literal `/.../` (or a quoted string) at the start of `text`, and what follows it.

    `\\/` stands for a slash. The empty regex `//` matches everything.
    """
    if text.startswith('"'):
        value, end = read_quoted(text, 0)
        return value, text[end:].strip()
    if not text.startswith("/"):
        raise ValueError("a regular expression between slashes is needed here: /.../")
    out = []
    index = 1
    while index < len(text):
        char = text[index]
        if char == "\\" and index + 1 < len(text):
            out.append("/" if text[index + 1] == "/" else text[index : index + 2])
            index += 2
        elif char == "/":
            return "".join(out), text[index + 1 :].strip()
        else:
            out.append(char)
            index += 1
    raise ValueError("the regular expression has no closing slash (write # as \\x23, / as \\/)")
