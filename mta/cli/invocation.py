"""What every command shares: the configuration it is about, the server it talks to, and how it prints.

The options `--config`, `--socket`, `--json`, `--xml` and `--dom` may stand before or behind the name of a
command.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from mta.cli.control import ask
from mta.cli.output import Output
from mta.errors import ConfigError

if TYPE_CHECKING:
    from mta.config.load import Loaded

__all__ = [
    "DEFAULT_CONFIG",
    "DEFAULT_SOCKET",
    "DRY_RUN",
    "Exit",
    "Invocation",
    "common_options",
    "form_among",
    "invocation",
]

DEFAULT_CONFIG = Path("/etc/mta/mta.conf")
DEFAULT_SOCKET = Path("/run/mta/control.sock")

#: The forms of answers for programs.
_FORMS = ("json", "xml", "dom")
#: Of every command that changes queues.
DRY_RUN = click.option("--dry-run", is_flag=True, help="Only say how many there are.")

Command = TypeVar("Command", bound=Callable[..., Any])


class Exit:
    """Exit codes of sysexits(3)."""

    USAGE = 64
    DATA = 65
    NO_INPUT = 66
    UNAVAILABLE = 69
    SOFTWARE = 70
    TEMPORARY = 75
    NO_PERMISSION = 77
    CONFIG = 78


@dataclass(slots=True)
class Invocation:
    """The options of one call of `mta`."""

    config: Path | None = None
    socket: Path | None = None
    form: str = ""  #: json, xml or dom; "" for people

    @property
    def as_json(self) -> bool:
        """Whether a program reads the answer."""
        return bool(self.form)

    @property
    def output(self) -> Output:
        return Output(as_json=self.as_json, form=self.form or "json")

    def config_file(self, given: Path | None = None) -> Path:
        """The main file: given, `--config`, $MTA_CONFIG or /etc/mta/mta.conf; ConfigError without one."""
        named = (
            given or self.config or (Path(os.environ["MTA_CONFIG"]) if "MTA_CONFIG" in os.environ else None)
        )
        if named is not None:
            return named
        if DEFAULT_CONFIG.exists():
            return DEFAULT_CONFIG
        raise ConfigError(f"no configuration: {DEFAULT_CONFIG} doesn't exist, and no --config FILE was given")

    def load(self, given: Path | None = None) -> Loaded:
        """The configuration, with whatever is wrong with it."""
        # The language is large; who only asks a server needs none of it.
        from mta.config.load import load

        return load(self.config_file(given))

    def socket_path(self) -> Path:
        """Where the server takes commands: `--socket`, or what the configuration (errors or not) says."""
        if self.socket is not None:
            return self.socket
        try:
            file = self.config_file()
        except ConfigError:
            return DEFAULT_SOCKET
        if not file.exists():
            raise ConfigError(f"cannot read {file}: no such file")
        name = self.load(file).readable.top.text("control-socket")
        if not name:
            raise ConfigError(
                f"{file} opens no control socket",
            )
        return Path(name)

    def answer(self, data: Any, text: str) -> None:
        """Print `data` for a program, `text` for people."""
        if self.as_json:
            self.output.json(data)
        else:
            click.echo(text)

    def ask(self, command: str, **arguments: Any) -> Any:
        """What the running server answers; raises Unreachable or ControlFailure."""
        return ask(self.socket_path(), command, **arguments)


def invocation(context: click.Context) -> Invocation:
    """The Invocation of this call."""
    return context.ensure_object(Invocation)


def common_options(function: Command) -> Command:
    """Add `--config`, `--socket` and the forms; what is given nearest to the command's own name wins."""
    for option in (
        _form("dom", 'Answer in lines of path="value".'),
        _form("xml", "Answer in XML."),
        _form("json", "Answer in JSON."),
        click.option(
            "--socket",
            type=click.Path(path_type=Path),
            expose_value=False,
            callback=_keep("socket"),
            help="Control socket of the server (default: what the configuration says).",
        ),
        click.option(
            "-c",
            "--config",
            type=click.Path(path_type=Path),
            expose_value=False,
            callback=_keep("config"),
            help=f"Main configuration file (default: $MTA_CONFIG, {DEFAULT_CONFIG}).",
        ),
    ):
        function = option(function)
    return function


def form_among(arguments: Sequence[str]) -> str:
    """The form that a call asks for, last of all, whether it can be understood or not; "" for people."""
    asked = [argument[2:] for argument in arguments if argument[:2] == "--" and argument[2:] in _FORMS]
    return asked[-1] if asked else ""


def _form(name: str, words: str) -> Callable[[Command], Command]:
    def chosen(context: click.Context, _parameter: click.Parameter, value: bool) -> bool:
        if value:
            invocation(context).form = name
        return value

    return click.option(f"--{name}", is_flag=True, expose_value=False, callback=chosen, help=words)


def _keep(attribute: str) -> Callable[[click.Context, click.Parameter, Any], Any]:
    def keep(context: click.Context, _parameter: click.Parameter, value: Any) -> Any:
        if value:
            setattr(invocation(context), attribute, value)
        return value

    return keep
