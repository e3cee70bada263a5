"""The `mta` command. Sub-commands are loaded when they are used, so that a small one starts quickly.

Names may be shortened while they are unique, as in PowerMTA: `mta sh st`; commands that do nothing here
are not counted. Exit codes are those of sysexits(3): 64 wrong usage, 69 no server, 75 try again later,
77 not allowed, 78 wrong configuration.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import sys
from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple

import click

from mta.cli.control import ControlFailure, Unreachable
from mta.cli.invocation import Exit, Invocation, common_options, form_among
from mta.errors import ConfigError, MtaError, SpoolError

__all__ = ["COMMANDS", "Entry", "ShortenedGroup", "cli", "main"]


class Entry(NamedTuple):
    """Where a sub-command lives, and what the list of commands says about it."""

    module: str
    name: str
    help: str


COMMANDS: Mapping[str, Entry] = MappingProxyType(
    {
        "run": Entry("mta.cli.server", "run", "Run the server in the foreground."),
        "check": Entry("mta.cli.check", "check", "Check a configuration and report everything at once."),
        "test": Entry("mta.cli.check", "test_group", "Say whether a configuration can be used."),
        "reload": Entry("mta.cli.server", "reload", "Let the server read its configuration again."),
        "show": Entry("mta.cli.show", "show", "Show status, queues, virtual MTAs, settings, ..."),
        "list": Entry("mta.cli.queues", "list_recipients", "List queued recipients."),
        "why": Entry("mta.cli.queues", "why", "Say why a queue is not sending."),
        "pause": Entry("mta.cli.queues", "pause", "Stop sending from queues, or a job."),
        "resume": Entry("mta.cli.queues", "resume", "Send from paused queues, or a job, again."),
        "schedule": Entry("mta.cli.queues", "schedule", "Try queues now instead of at their retry time."),
        "delete": Entry("mta.cli.queues", "delete", "Delete queued recipients."),
        "undo": Entry("mta.cli.queues", "undo", "Bring back what was deleted."),
        "set": Entry("mta.cli.queues", "set_group", "Set the mode of queues, or priorities."),
        "trace": Entry("mta.cli.queues", "trace", "Deliver one message and print the dialogue."),
        "resolve": Entry("mta.cli.ways", "resolve", "Show where a domain's mail goes."),
        "disable": Entry("mta.cli.ways", "disable", "Take a source address out of use."),
        "enable": Entry("mta.cli.ways", "enable", "Use a source address again."),
        "rotate": Entry("mta.cli.server", "rotate", "Close accounting files, or the log, and open new ones."),
        "reset": Entry("mta.cli.server", "reset", "Reset traffic counters."),
        "clear": Entry("mta.cli.server", "clear", "Forget cached DNS answers."),
        "register": Entry("mta.cli.unneeded", "register", "PowerMTA's console; there is none here."),
        "deregister": Entry("mta.cli.unneeded", "deregister", "The same."),
        "digest": Entry("mta.cli.digest", "digest", "Hash a text as privacy-policy does."),
        "send": Entry("mta.cli.send", "send", "Send a test message through an SMTP port."),
        "sink": Entry("mta.cli.sink", "sink", "Run a mock receiver."),
        "spool": Entry("mta.cli.spool", "spool", "Look into a spool without the server."),
        "dkim": Entry("mta.cli.dkim", "dkim", "Make and check DKIM keys and signatures."),
    }
)


class ShortenedGroup(click.Group):
    """A group whose commands answer to every unique beginning of their names.

    Those that do nothing here (`yielding`) are never in the way of one that does: `mta de` deletes.
    """

    yielding: frozenset[str] = frozenset()

    def resolve_command(
        self, context: click.Context, arguments: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if arguments and not arguments[0].startswith("-"):
            arguments = [self._full_name(context, arguments[0]), *arguments[1:]]
        return super().resolve_command(context, arguments)

    def _full_name(self, context: click.Context, name: str) -> str:
        known = self.list_commands(context)
        close = [name] if name in known else [other for other in known if other.startswith(name)]
        close = [other for other in close if other not in self.yielding] or close
        if len(close) > 1:
            context.fail(f"{name!r} is short for {', '.join(close)}")
        return close[0] if close else name


class _LazyGroup(ShortenedGroup):
    """The top group: a module is imported when its command is called, not to print the list of commands."""

    yielding = frozenset(name for name, entry in COMMANDS.items() if entry.module == "mta.cli.unneeded")

    def list_commands(self, context: click.Context) -> list[str]:
        return [name for name, entry in COMMANDS.items() if importlib.util.find_spec(entry.module)]

    def get_command(self, context: click.Context, name: str) -> click.Command | None:
        if name not in self.list_commands(context):
            return None
        entry = COMMANDS[name]
        command = getattr(importlib.import_module(entry.module), entry.name)
        assert isinstance(command, click.Command)
        return command

    def format_commands(self, context: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, COMMANDS[name].help) for name in self.list_commands(context)])


@click.group(cls=_LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="mta", message="%(prog)s %(version)s")
@common_options
def cli() -> None:
    """An outbound mail server that speaks PowerMTA's configuration language."""


def main(arguments: list[str] | None = None) -> int:
    """Run one command; returns the exit code."""
    call = Invocation()
    try:
        code = cli.main(args=arguments, prog_name="mta", standalone_mode=False, obj=call)
        return code if isinstance(code, int) else 0
    except click.exceptions.Exit as leaving:
        return leaving.exit_code
    except click.Abort:
        click.echo("aborted", err=True)
        return 130
    except click.UsageError as error:
        # The options may not have been read yet when something was wrong with them.
        call.form = call.form or form_among(sys.argv[1:] if arguments is None else arguments)
        if call.as_json:
            return _failed(call, error.format_message(), "", Exit.USAGE)
        error.show()
        return Exit.USAGE
    except click.ClickException as error:
        return _failed(call, error.format_message(), "", Exit.DATA)
    except Unreachable as error:
        return _failed(call, str(error), error.hint, error.code)
    except ControlFailure as error:
        return _failed(call, str(error), error.hint, Exit.DATA, error.reply)
    except ConfigError as error:
        return _failed(call, str(error), "", Exit.CONFIG)
    except SpoolError as error:
        return _failed(call, str(error), "", Exit.NO_INPUT)
    except MtaError as error:
        return _failed(call, str(error), "", Exit.SOFTWARE)
    except BrokenPipeError:
        # Whoever read our output has seen enough; python would complain once more at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


def _failed(
    call: Invocation, text: str, hint: str, code: int, reply: Mapping[str, object] | None = None
) -> int:
    problems = (reply or {}).get("problems")
    if call.as_json:
        data = {"problems": problems} if problems else {}
        call.output.json(data, message=text, is_success=False)
    else:
        found = problems if isinstance(problems, list) else []
        # The problems may be the text already: the list below has them with their hints.
        is_said_below = bool(found) and all(str(problem.get("text")) in text for problem in found)
        click.echo("mta: the configuration has errors" if is_said_below else f"mta: {text}", err=True)
        for problem in found:
            place = f"{problem.get('file')}:{problem.get('line')}"
            advice = f" ({problem['hint']})" if problem.get("hint") else ""
            click.echo(f"  {place}: {problem.get('severity')}: {problem.get('text')}{advice}", err=True)
        if hint:
            click.echo(f"     {hint}", err=True)
    return Exit.CONFIG if problems else code


if __name__ == "__main__":
    sys.exit(main())
