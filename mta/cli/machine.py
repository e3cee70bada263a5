"""Answers for programs, in the three envelopes that PowerMTA's scripts read.

    --json   {"data": {...}, "status": "success", "message": ""}
    --xml    <rsp><data>...</data><succ/></rsp>
    --dom    queue[0].name="example.com/v1"        a line for each leaf

A list becomes repeated elements in XML and numbered ones in DOM. Pure.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

__all__ = ["FORMS", "render"]

FORMS = ("json", "xml", "dom")


def render(
    form: str, data: Any, *, message: str = "", is_success: bool = True, indent: int | None = None
) -> str:
    """The whole answer, without a final line end; `indent` is for people who look at JSON."""
    if form == "xml":
        end = "<succ/>" if is_success else f"<fail>{escape_text(message)}</fail>"
        return f'<?xml version="1.0" encoding="UTF-8"?>\n<rsp><data>{elements(data)}</data>{end}</rsp>'
    if form == "dom":
        lines = list(leaves("", data))
        return "\n".join(lines if is_success else [*lines, f'error="{one_line(message)}"'])
    status = "success" if is_success else "failure"
    answer = {"data": data, "status": status, "message": message}
    return json.dumps(answer, ensure_ascii=False, indent=indent)


def elements(value: Any) -> str:
    """A value as XML content."""
    if isinstance(value, dict):
        return "".join(element(str(name), below) for name, below in value.items())
    return escape_text(leaf(value))


def element(name: str, value: Any) -> str:
    if isinstance(value, list | tuple):
        return "".join(element(name, one) for one in value)
    tag = "".join(c if c.isalnum() or c in "-_." else "-" for c in name)
    tag = tag if tag[:1].isalpha() else f"_{tag}"
    return f"<{tag}>{elements(value)}</{tag}>"


def leaves(path: str, value: Any) -> Iterator[str]:
    """One line for each leaf; an empty list or tree has none."""
    if isinstance(value, dict):
        for name, below in value.items():
            yield from leaves(f"{path}.{name}" if path else str(name), below)
    elif isinstance(value, list | tuple):
        for number, below in enumerate(value):
            yield from leaves(f"{path}[{number}]", below)
    else:
        yield f'{path}="{one_line(leaf(value))}"'


def leaf(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value)


def one_line(text: str) -> str:
    """Readers take what stands between the first and the last quote of a line, so quotes stay as they are."""
    return text.replace("\r\n", " ").replace("\n", " ").replace("\r", " ")


def escape_text(text: str) -> str:
    """XML 1.0 has no way to write most control characters."""
    printable = "".join(c if c >= " " or c in "\t\n" else "\ufffd" for c in text)
    # The library's function for this comes with a web client, which takes longer to load than most commands.
    return printable.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
