"""The table tells the truth: what is in force is read by somebody, and nothing that is read is called idle.

A row is "read" when its name stands as a text in the program outside the table; names put together from two
texts (`"second-dkim-" + "headers"`) and f-strings count too.
"""

from __future__ import annotations

import ast
from pathlib import Path

from mta.config.kinds import Directive, Scope, Status
from mta.config.table.rows import ROWS

PACKAGE = Path(__file__).resolve().parents[3] / "mta"

#: These only describe the language.
DESCRIBING = {
    PACKAGE / "config" / name for name in ("kinds.py", "blocks.py", "lint.py", "reference.py", "secrets.py")
}

#: In force through the parser itself, in other words than their names.
PARSED = {
    "/regex/ category",
    "virtual-mta=",
    "recipient-priority=",
    "backoff-to-normal-after=",
    "reenable-after=",
}

#: Words that are read somewhere, but not as these directives.
OTHER_WORDS = {
    "alias",
    "client",
    "command",
    "cpus",
    "domain",
    "domains",
    "header",
    "mail-from",
    "min-free-space",
    "priority",
    "server",
    "sender-or-from",
    "source",
    "type",
    "workers",
}

#: Checked or referred to, but without effect.
LOOKED_AT = {
    "backoff-reroute-to-virtual-mta",  # config/references.py: the virtual MTA must exist
    "smtp-server-tls-ca-file",  # config/load.py: the file must exist
    "tls-ca-file",
    "tls-allow-tlsv1.2",  # <transmissions-api-listener> only
    "tls-allow-tlsv1.3",
    "tls-ciphers",
    "tls-certificate",
    "log-data",  # <source> and <domain> only
    "log-tls",
}


def texts() -> tuple[set[str], set[str]]:
    """All string constants of the program, and the constant beginnings of its f-strings."""
    whole: set[str] = set()
    beginnings: set[str] = set()
    for path in PACKAGE.rglob("*.py"):
        if path in DESCRIBING or path.parent.name == "table":
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.JoinedStr):
                first = node.values[0] if node.values else None
                if isinstance(first, ast.Constant) and len(str(first.value)) > 8:
                    beginnings.add(str(first.value))
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                whole.add(node.value)
    return whole, beginnings


WHOLE, BEGINNINGS = texts()


def is_read(row: Directive) -> bool:
    if row.name in WHOLE or row.name in PARSED or any(row.name.startswith(text) for text in BEGINNINGS):
        return True
    cuts = (index + 1 for index, char in enumerate(row.name) if char == "-")
    return any(row.name[:cut] in WHOLE and row.name[cut:] in WHOLE for cut in cuts)


def places(row: Directive) -> str:
    return "/".join(sorted(scope.value or "top" for scope in row.scopes))


def test_everything_in_force_is_read_by_somebody() -> None:
    in_force = [row for row in ROWS if row.status in (Status.IN_FORCE, Status.EXTENSION) and not row.alias_of]

    assert [f"{row.name} in {places(row)}" for row in in_force if not is_read(row)] == []


def test_nothing_that_is_read_is_said_to_be_without_effect() -> None:
    without = (Status.NO_EFFECT, Status.OBSOLETE)
    idle = [row for row in ROWS if row.status in without and row.name not in OTHER_WORDS | LOOKED_AT]

    assert [f"{row.name} in {places(row)}" for row in idle if row.name in WHOLE] == []


def test_every_scope_of_a_block_in_force_has_something_in_force() -> None:
    dead = {Scope.VAULT}
    working = {scope for row in ROWS if row.status is Status.IN_FORCE for scope in row.scopes}

    assert {Scope.GLOBAL, Scope.SOURCE, Scope.DOMAIN, Scope.VIRTUAL_MTA, Scope.POOL} <= working
    assert not dead & working
