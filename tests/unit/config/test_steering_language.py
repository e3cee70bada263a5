"""`mta check` on a file with every PowerMTA row of the blocks that steer delivery: what has no effect."""

from __future__ import annotations

from pathlib import Path

import pytest

from mta.cli.main import main
from mta.config.directives import TABLE, Scope
from tests.unit.config.test_whole_language import CONTEXT, NAMES, line_of

SCOPES = (
    Scope.DOMAIN,
    Scope.VIRTUAL_MTA,
    Scope.POOL,
    Scope.SOURCE,
    Scope.SMTP_PATTERN_LIST,
    Scope.MX_ROLLUP_LIST,
)
ARGUMENTS = {
    Scope.DOMAIN: "example.com",
    Scope.VIRTUAL_MTA: "every",
    Scope.POOL: "all",
    Scope.SOURCE: "127.0.0.1",
    Scope.SMTP_PATTERN_LIST: "whole",
    Scope.MX_ROLLUP_LIST: "",
}
#: Blocks in blocks, files of others, and what excludes another line of the same block.
LEFT_OUT = {"include", "domain", "use-proxy", "smtp-proxy-source-host", "domain-key"}

#: What may be without effect for now: TLS beyond the handshake and DANE and MTA-STS, checks of incoming mail,
#: Signals and its relatives, feedback; and what PowerMTA itself takes without effect.
TLS = {
    "use-dane",
    "use-mta-sts",
    "reuse-ssl-session",
    "smtp-tls-allow-sslv3",
    "smtp-tls-tlsv1.3-ciphersuites",
}
SIGNALS = {"enable-signals", "add-x-msys-api-header", "sparkpost-sandbox", "sparkpost-ip-pool"}
FEEDBACK = {"log-messages"}
DROPPED = {"dk-sign", "broken-auth-clients"}
CHECKS = ("check-", "trace-", "reject-spf-", "reject-iprev-")


def configuration() -> str:
    """Every row of part 2 of the reference in its block, with a fitting value."""
    places = [line.split(" ", 1) for line in NAMES.read_text().splitlines() if line]
    text = CONTEXT.replace("</virtual-mta>", "</virtual-mta>\n<virtual-mta other>\n</virtual-mta>", 1)
    for scope in SCOPES:
        lines = []
        for place, name in places:
            row = TABLE.find(scope, name) if place == scope.value else None
            if row is not None and name not in LEFT_OUT:
                lines.append(line_of(row, scope))
        text += f"<{scope.value} {ARGUMENTS[scope]}>\n".replace(" >", ">")
        text += "\n".join(line for line in lines if line)
        text += f"\n</{scope.value}>\n"
    return text + "spool /tmp/spool\n"


def test_only_what_may_be_is_without_effect(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "mta.conf"
    file.write_text(configuration())

    main(["check", str(file)])
    said = capsys.readouterr().out
    idle = {line.rsplit(": ", 1)[1].split()[0] for line in said.splitlines() if "no effect" in line}

    assert "use-dane" in idle, said
    assert [line for line in said.splitlines() if ": error: " in line and "read" not in line] == []
    allowed = TLS | SIGNALS | FEEDBACK | DROPPED
    assert {name for name in idle - allowed if not name.startswith(CHECKS)} == set()
