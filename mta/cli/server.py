"""Commands about the server as a whole: run, reload, rotate, reset, clear."""

from __future__ import annotations

import click

from mta.cli.invocation import common_options, invocation
from mta.cli.main import ShortenedGroup
from mta.cli.unneeded import clear_secretscache
from mta.errors import ConfigError

__all__ = ["clear", "reload", "reset", "rotate", "run"]


@click.command()
@common_options
@click.pass_context
def run(context: click.Context) -> int:
    """Run the server in the foreground until SIGTERM (drains) or Ctrl-C.

    SIGHUP reads the configuration again, SIGUSR1 opens log files again.
    """
    # The server's modules are many; no other command needs them.
    from mta.service.supervisor import main

    file = invocation(context).config_file()
    if not file.exists():
        raise ConfigError(f"cannot read {file}: no such file")
    return main(file)


@click.command()
@common_options
@click.pass_context
def reload(context: click.Context) -> None:
    """Let the server read its configuration again; with errors it keeps the old one and says why."""
    call = invocation(context)
    data = call.ask("reload")
    if call.as_json:
        call.output.json(data, message="Configuration reloaded.")
        return
    click.echo("Configuration reloaded.")
    for problem in (data or {}).get("problems", ()):
        click.echo(f"{problem['file']}:{problem['line']}: {problem['severity']}: {problem['text']}")


@click.group(cls=ShortenedGroup)
def rotate() -> None:
    """Close files and open new ones."""


@rotate.command("acct")
@common_options
@click.argument("file", required=False)
@click.pass_context
def rotate_acct(context: click.Context, file: str | None) -> None:
    """Close the accounting file FILE (default: all of them) and open the next one."""
    call = invocation(context)
    data = call.ask("rotate", what="acct", file=file)
    if call.as_json:
        call.output.json(data)
        return
    closed = data.get("files", [])
    click.echo("Accounting file rotated." if closed else "There was nothing to rotate.")
    for name in closed:
        click.echo(f"  {name}")


@rotate.command("log")
@common_options
@click.pass_context
def rotate_log(context: click.Context) -> None:
    """Put the server's own log aside as NAME.1 and begin a new one; `log-rotate` files are kept."""
    call = invocation(context)
    data = call.ask("rotate", what="log")
    call.answer(data, "Logging file rotated.")


@click.group(cls=ShortenedGroup)
def reset() -> None:
    """Reset what is counted."""


@reset.command("counters")
@common_options
@click.pass_context
def reset_counters(context: click.Context) -> None:
    """Reset the traffic counters of `show status`."""
    call = invocation(context)
    call.answer(call.ask("reset.counters"), "Traffic counters reset.")


#: What PowerMTA calls the same.
reset.add_command(reset_counters, "status")


@click.group(cls=ShortenedGroup)
def clear() -> None:
    """Forget what is cached."""


clear.add_command(clear_secretscache)


@clear.command("dnscache")
@common_options
@click.argument("domain", default="*")
@click.pass_context
def clear_dnscache(context: click.Context, domain: str) -> None:
    """Forget the DNS answers for DOMAIN (default: for every domain)."""
    call = invocation(context)
    call.answer(call.ask("clear.dnscache", domain=domain), "DNS cache cleared.")
