"""`mta check [FILE]`: everything that is wrong with a configuration, and everything that may surprise.

`mta check spf`: what receivers find out about an address of ours.
"""

from __future__ import annotations

import asyncio
from pathlib import Path

import click

from mta.cli.invocation import Exit, common_options, invocation
from mta.cli.main import ShortenedGroup
from mta.cli.output import counted
from mta.clock import SystemClock
from mta.config.lint import Machine, lint
from mta.config.load import Loaded
from mta.config.problems import Problem, Severity
from mta.delivery.keyring import KeyRing
from mta.errors import ConfigError
from mta.routing.spf import SpfResult, check_spf
from mta.service.routes import make_resolver

__all__ = ["as_data", "check", "find_problems", "test_group"]


#: What nobody calls a file.
_FILE = "configuration-file"


class _CheckGroup(click.Group):
    """`check spf ...` is a command of its own; everything else is about a configuration."""

    def parse_args(self, context: click.Context, arguments: list[str]) -> list[str]:
        if not arguments or arguments[0] not in self.commands:
            arguments = [_FILE, *arguments]
        return super().parse_args(context, arguments)


class _FileCommand(click.Command):
    """`mta check FILE`: its own name is never typed."""

    def format_usage(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        path = ctx.parent.command_path if ctx.parent is not None else ctx.command_path
        formatter.write_usage(path, " ".join(self.collect_usage_pieces(ctx)))


@click.group(cls=_CheckGroup)
def check() -> None:
    """Check a configuration, or a domain's SPF record."""


@check.command("spf")
@common_options
@click.option("--tcp", is_flag=True, help="Ask over TCP.")
@click.option("--dumppackets", is_flag=True, help="Show every question and answer.")
@click.argument("ip")
@click.argument("helo")
@click.argument("mail_from", required=False, default="")
@click.pass_context
def check_spf_record(
    context: click.Context, ip: str, helo: str, mail_from: str, tcp: bool, dumppackets: bool
) -> int:
    """Say whether SPF lets IP send mail of MAIL_FROM (default: of HELO), as a receiver would find out."""
    call = invocation(context)
    try:
        snapshot = call.load().snapshot
    except ConfigError:
        snapshot = None  # without a configuration the machine's own name servers are asked
    packets: list[str] = []
    heard = packets.append if dumppackets else None
    resolver = make_resolver(snapshot, SystemClock(), over_tcp=tcp, heard=heard)
    try:
        found = asyncio.run(check_spf(resolver, ip, helo, mail_from))
    except ValueError as error:
        raise click.UsageError(str(error), context) from None
    if call.as_json:
        spf: dict[str, object] = {"result": found.result.value, "text": found.text}
        call.output.json({"spf": spf | ({"packet": packets} if dumppackets else {})})
    else:
        for packet in packets:
            click.echo(f"{packet}\n")
        click.echo(f"{found.result.value}: {found.text}")
    return 0 if found.result is SpfResult.PASS else Exit.DATA


@check.command(_FILE, cls=_FileCommand, hidden=True)
@common_options
@click.option("--strict", is_flag=True, help="Count warnings as errors.")
@click.option("--quiet", "-q", is_flag=True, help="Report errors only.")
@click.argument("file", type=click.Path(path_type=Path), required=False)
@click.pass_context
def check_file(context: click.Context, file: Path | None, strict: bool, quiet: bool) -> int:
    """Check FILE (or the configuration of --config) and report all problems at once.

    Exits with 0 when the server would start with it, with 78 when not.
    """
    call = invocation(context)
    loaded = call.load(file)
    problems = find_problems(loaded)
    errors = [problem for problem in problems if problem.severity is Severity.ERROR]
    warnings = len(problems) - len(errors)
    is_fine = not errors and not (strict and warnings)
    if call.as_json:
        call.output.json(
            {
                "problems": [as_data(problem) for problem in (errors if quiet else problems)],
                "errors": len(errors),
                "warnings": warnings,
                "files": [str(name) for name in loaded.readable.files],
            },
            is_success=is_fine,
            message="" if is_fine else _verdict(len(errors), warnings, strict=strict),
        )
    else:
        for problem in errors if quiet else problems:
            _print(problem)
        if problems or not quiet:
            click.echo(_verdict(len(errors), warnings, strict=strict))
    return 0 if is_fine else Exit.CONFIG


@click.group("test", cls=ShortenedGroup)
def test_group() -> None:
    """Test something."""


@test_group.command("config")
@common_options
@click.pass_context
def test_config(context: click.Context) -> int:
    """Say whether the server would start, or the first error: PowerMTA's shorter form of `mta check`."""
    call = invocation(context)
    problems = find_problems(call.load())
    first = next((problem for problem in problems if problem.severity is Severity.ERROR), None)
    text = "Configuration OK."
    if first is not None:
        text = f"Error in line {first.line} of {first.file}: {first.text}"
    if call.as_json:
        call.output.json({}, message=text, is_success=first is None)
    else:
        click.echo(text, err=first is not None)
    return Exit.CONFIG if first is not None else 0


def find_problems(loaded: Loaded) -> tuple[Problem, ...]:
    """The problems of loading, and the warnings about what the configuration says."""
    snapshot = loaded.readable
    # The server refuses to start with keys that can't sign, so they belong to its configuration.
    more = (*KeyRing.problems(snapshot), *lint(snapshot, Machine.here()))
    if errors := loaded.errors:
        # What seems to be missing may stand in a line that could not be understood.
        wrong = {(problem.file, problem.line) for problem in errors}
        more = tuple(
            problem for problem in more if problem.line and (problem.file, problem.line) not in wrong
        )
    found = tuple(dict.fromkeys((*loaded.problems, *more)))
    rank = {file: index for index, file in enumerate(snapshot.files)}
    return tuple(sorted(found, key=lambda problem: (rank.get(problem.file, len(rank)), problem.line)))


def as_data(problem: Problem) -> dict[str, object]:
    """A problem as JSON prints it."""
    return {
        "file": str(problem.file),
        "line": problem.line,
        "severity": problem.severity.value,
        "text": problem.text,
        "hint": problem.hint,
    }


def _print(problem: Problem) -> None:
    color = "red" if problem.severity is Severity.ERROR else "yellow"
    word = click.style(problem.severity.value, fg=color, bold=True)
    place = f"{problem.file}:{problem.line}" if problem.line else str(problem.file)
    click.echo(f"{place}: {word}: {problem.text}")
    if problem.hint:
        click.echo(click.style(f"    {problem.hint}", dim=True))


def _verdict(errors: int, warnings: int, *, strict: bool) -> str:
    if not errors and not warnings:
        return "The configuration is fine."
    counts = [counted(count, word) for count, word in ((errors, "error"), (warnings, "warning")) if count]
    verdict = "The configuration can't be used" if errors else "The configuration can be used"
    if strict and not errors:
        verdict += ", but --strict wants no warnings"
    return f"{verdict}: {', '.join(counts)}."
