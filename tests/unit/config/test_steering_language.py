"""`mta check` on a file with every PowerMTA row of the blocks that steer delivery: what has no effect."""

from __future__ import annotations

from pathlib import Path

import pytest

from mta.cli.main import main
from mta.config.directives import TABLE, Directive, Scope, Status
from mta.message.domainkey import generate_private_key, private_pem
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
#: What only one virtual MTA can have beside the others: each has a virtual MTA of its own below.
APART = ("use-proxy", "smtp-proxy-source-host")

#: What may be without effect for now, by class: TLS beyond the handshake and DANE and MTA-STS, checks of
#: incoming mail, Signals and its relatives, feedback.
TLS = {"use-dane", "use-mta-sts", "reuse-ssl-session", "smtp-tls-tlsv1.3-ciphersuites"}
SIGNALS = {"enable-signals", "add-x-msys-api-header", "sparkpost-sandbox", "sparkpost-ip-pool"}
FEEDBACK = {"log-messages"}
CHECKS = ("check-", "trace-", "reject-spf-", "reject-iprev-")


def places() -> list[tuple[Scope, str]]:
    """Every row of part 2 of the reference in these blocks; blocks in blocks as well."""
    named = [line.split(" ", 1) for line in NAMES.read_text().splitlines() if line]
    listed = [(scope, name) for scope in SCOPES for place, name in named if place == scope.value]
    return [*listed, (Scope.VIRTUAL_MTA, "domain"), (Scope.POOL, "domain")]


class Written:
    """A configuration file with all of them, and the files that it names."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.path = directory / "mta.conf"
        self.places: list[tuple[Scope, str]] = []
        key = directory / "key.pem"
        key.write_bytes(private_pem(generate_private_key("ed25519")))
        key.chmod(0o600)
        self.lines = {scope: self._lines(scope) for scope in SCOPES}
        nested = f"<domain nested.example>\n{self.lines[Scope.DOMAIN]}\n</domain>"
        text = CONTEXT.replace("</virtual-mta>", "</virtual-mta>\n<virtual-mta other>\n</virtual-mta>", 1)
        for scope in SCOPES:
            inside = f"{self.lines[scope]}\n"
            if scope in (Scope.VIRTUAL_MTA, Scope.POOL):
                inside += f"{nested}\n"
                self.places.append((scope, "domain"))
            text += f"<{scope.value} {ARGUMENTS[scope]}>\n{inside}</{scope.value}>\n".replace(" >", ">")
        for name in APART:
            row = self._row(Scope.VIRTUAL_MTA, name)
            text += f"<virtual-mta with-{name}>\n{line_of(row, Scope.VIRTUAL_MTA)}\n</virtual-mta>\n"
        self.path.write_text(f"{text}spool {directory}/spool\n")
        self.path.chmod(0o600)

    def _row(self, scope: Scope, name: str) -> Directive:
        row = TABLE.find(scope, name)
        assert row is not None, name
        self.places.append((scope, name))
        return row

    def _lines(self, scope: Scope) -> str:
        """The lines of one block."""
        names = [name for place, name in places() if place is scope and name not in ("domain", *APART)]
        return "\n".join(self._line(scope, self._row(scope, name)) for name in names)

    def _line(self, scope: Scope, row: Directive) -> str:
        if row.name == "include":
            file = self.directory / f"more-{scope.value}.conf"
            file.write_text(MORE[scope])
            return f"include {file}"
        if row.name == "domain-key":
            return f"domain-key s1,example.com,{self.directory}/key.pem"
        return line_of(row, scope)


#: What stands in the files that are included.
MORE = {
    Scope.DOMAIN: "max-smtp-out 3\n",
    Scope.VIRTUAL_MTA: "max-smtp-out 30\n",
    Scope.SOURCE: "max-message-size 1M\n",
    Scope.SMTP_PATTERN_LIST: "reply /later/ mode=backoff\n",
}


@pytest.fixture
def written(tmp_path: Path) -> Written:
    return Written(tmp_path)


def test_the_file_has_every_row(written: Written) -> None:
    ours = (Status.FOREIGN, Status.EXTENSION)
    known = {(scope, row.name) for scope in SCOPES for row in TABLE.rows(scope) if row.status not in ours}

    assert set(written.places) == set(places())
    assert known - set(places()) == set()


def test_only_what_may_be_is_without_effect(written: Written, capsys: pytest.CaptureFixture[str]) -> None:
    code = main(["check", str(written.path)])
    said = capsys.readouterr().out.splitlines()
    idle = {line.rsplit(": ", 1)[1].split()[0] for line in said if "no effect" in line}

    assert code == 0, [line for line in said if ": error: " in line]
    assert {name for name in idle - (TLS | SIGNALS | FEEDBACK) if not name.startswith(CHECKS)} == set()
    table = {row.name for scope in SCOPES for row in TABLE.rows(scope) if row.status is Status.NO_EFFECT}
    assert idle == table
