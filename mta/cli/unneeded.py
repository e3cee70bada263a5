"""Commands that PowerMTA has and that have nothing to do here: licenses, its console, a cache of secrets.

They answer all the same, in the same words as far as these are true, so that scripts that call them go on.
None of them asks the server.
"""

from __future__ import annotations

import click

from mta.cli.invocation import Exit, common_options, invocation

__all__ = [
    "clear_secretscache",
    "deregister",
    "register",
    "show_license",
    "show_registration",
]


@click.command("license")
@common_options
@click.pass_context
def show_license(context: click.Context) -> None:
    """Under which terms this copy runs: it needs no key and never expires."""
    # Loaded here: what else is in this module belongs to groups that have to be quick.
    import importlib.metadata
    import platform

    call = invocation(context)
    rows = {
        "product": "mta",
        "version": importlib.metadata.version("mta"),
        "platform": f"{platform.system()} {platform.machine()}",
        "units": "unlimited",
        "instances": "unlimited",
        "licensee": "everybody (Apache License 2.0)",
        "serial": "",
        "issued": "",
        "expires": "never",
    }
    call.answer(rows, "\n".join(f"{name}: {value}".rstrip() for name, value in rows.items()))


@click.command("registration")
@common_options
@click.pass_context
def show_registration(context: click.Context) -> None:
    """The console that this server is registered with: there is none."""
    invocation(context).answer({"registered": False}, "Not registered with a console.")


@click.command()
@common_options
@click.pass_context
def register(context: click.Context) -> int:
    """Register with a console; there is none, so this fails."""
    call, text = invocation(context), "there is no console to register with"
    if call.as_json:
        call.output.json({}, message=text, is_success=False)
    else:
        click.echo(f"mta: {text}", err=True)
    return Exit.UNAVAILABLE


@click.command()
@common_options
@click.pass_context
def deregister(context: click.Context) -> None:
    """Leave the console; there is none, so this is always so."""
    invocation(context).answer({"registered": False}, "Not registered with a console.")


@click.command("secretscache")
@common_options
@click.pass_context
def clear_secretscache(context: click.Context) -> None:
    """Forget secrets from a vault; nothing is kept of them, so this is always so."""
    invocation(context).answer({}, "Secrets cache cleared.")
