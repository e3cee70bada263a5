"""Commands about queues, jobs and what waits: list, why, pause, resume, schedule, delete, set, trace."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, TypeVar

import click

from mta.cli.invocation import DRY_RUN, Exit, common_options, invocation
from mta.cli.main import ShortenedGroup
from mta.cli.output import Column, counted, in_future, moment, print_dialogue
from mta.clock import SystemClock

__all__ = ["delete", "list_recipients", "pause", "resume", "schedule", "set_group", "trace", "undo", "why"]

Command = TypeVar("Command", bound=Callable[..., Any])

#: The filters as the server calls them, by the names of our options.
_FILTERS: Mapping[str, str] = MappingProxyType(
    {
        "queue": "queue",
        "rcpt": "rcpt",
        "orig": "orig",
        "job_id": "jobId",
        "env_id": "envId",
        "older_than": "olderThan",
    }
)


def _asked(filters: Mapping[str, str | None]) -> dict[str, str | None]:
    """The filters in the words of the control socket."""
    return {_FILTERS[name]: value for name, value in filters.items()}


def _filters(function: Command) -> Command:
    """The options that choose recipients; PowerMTA's spelling and ours."""
    for option in (
        click.option("--older-than", help="Received at least so long ago, as 4h."),
        click.option("--envId", "--env-id", "env_id", help="Envelope id."),
        click.option("--jobId", "--job-id", "job_id", help="Job id."),
        click.option("--orig", help="Sender; * stands for anything."),
        click.option("--rcpt", help="Recipient; * stands for anything."),
        click.option("--queue", help="Queue, as domain/vmta; * stands for anything."),
    ):
        function = option(function)
    return function


@click.command("list")
@common_options
@_filters
@click.option(
    "--maxitems", type=click.IntRange(min=1), default=100, show_default=True, help="At most so many."
)
@click.option("--pause", "with_pause", is_flag=True, help="Show which are kept back by a pause.")
@click.option("--priority", "with_priority", is_flag=True, help="Show their priorities.")
@click.option("--schedule", "with_schedule", is_flag=True, help="Show when scheduled ones may be sent.")
@click.pass_context
def list_recipients(
    context: click.Context,
    /,
    maxitems: int,
    with_pause: bool,
    with_priority: bool,
    with_schedule: bool,
    **filters: str | None,
) -> None:
    """List queued recipients, all of them or those that every given filter fits."""
    call = invocation(context)
    data = call.ask("list", **_asked(filters), maxitems=maxitems)
    if call.as_json:
        call.output.json(data)
        return
    now = SystemClock().wall()
    more: dict[Column, tuple[bool, Callable[[dict[str, Any]], object]]] = {
        Column("priority", is_number=True): (with_priority, lambda row: row.get("priority", 50)),
        Column("paused"): (with_pause, lambda row: "yes" if row.get("paused") else "no"),
        Column("schedule"): (with_schedule, lambda row: _windows(row.get("schedule", ()))),
        Column("held for"): (
            any(row.get("heldFor") is not None for row in data["rcpt"]),
            lambda row: "" if row.get("heldFor") is None else f"worker {row['heldFor']}",
        ),
    }
    rows = [
        (
            found.get("queueId", ""),
            found.get("rcpt", ""),
            found.get("orig", "") or "<>",
            found.get("queue", ""),
            found.get("attempts", 0),
            in_future(found.get("nextTry", 0), now),
            moment(found.get("timeQueued", 0)),
            found.get("jobId", ""),
            *(show(found) for is_wanted, show in more.values() if is_wanted),
        )
        for found in data["rcpt"]
    ]
    columns = (
        Column("queue id"),
        Column("recipient"),
        Column("sender"),
        Column("queue"),
        Column("tries", is_number=True),
        Column("next try"),
        Column("received"),
        Column("job"),
        *(column for column, (is_wanted, _) in more.items() if is_wanted),
    )
    call.output.table(
        columns, rows, footer=f"{len(rows)} of {data.get('total', len(rows))} recipients shown."
    )


@click.command()
@common_options
@click.argument("queue")
@click.pass_context
def why(context: click.Context, queue: str) -> None:
    """Say in one sentence why QUEUE (domain/vmta) is not sending."""
    call = invocation(context)
    data = call.ask("why", queue=queue)
    call.answer(data, data["text"])


@click.group(cls=ShortenedGroup)
def pause() -> None:
    """Stop sending."""


@pause.command("queue")
@common_options
@DRY_RUN
@click.argument("pattern")
@click.pass_context
def pause_queue(context: click.Context, pattern: str, dry_run: bool) -> None:
    """Stop sending from the queues that match PATTERN (domain/vmta, * on either side)."""
    _change(context, "queue.pause", "paused", dry_run, pattern=pattern)


@pause.command("job")
@common_options
@DRY_RUN
@click.argument("job")
@click.pass_context
def pause_job(context: click.Context, job: str, dry_run: bool) -> None:
    """Keep back everything that bears the job id JOB, also what is yet to come."""
    call = invocation(context)
    data = call.ask("job.pause", job=job, dryRun=dry_run or None)
    count = counted(data["rcp"], "recipient")
    call.answer(data, f"{count} would be kept back." if dry_run else f"Job paused: {count} kept back.")


@click.group(cls=ShortenedGroup)
def resume() -> None:
    """Send again."""


@resume.command("queue")
@common_options
@DRY_RUN
@click.argument("pattern")
@click.pass_context
def resume_queue(context: click.Context, pattern: str, dry_run: bool) -> None:
    """Send again from the paused queues that match PATTERN."""
    _change(context, "queue.resume", "resumed", dry_run, pattern=pattern)


@resume.command("job")
@common_options
@DRY_RUN
@click.argument("job")
@click.pass_context
def resume_job(context: click.Context, job: str, dry_run: bool) -> None:
    """Send what bears the job id JOB again."""
    call = invocation(context)
    data = call.ask("job.resume", job=job, dryRun=dry_run or None)
    count = counted(data["rcp"], "recipient")
    text = f"{count} would go." if dry_run else f"Job resumed: {count} may go."
    call.answer(
        data, text if data["jobs"] else "This job is not paused." if dry_run else "This job was not paused."
    )


@click.group("set", cls=ShortenedGroup)
def set_group() -> None:
    """Set the mode of queues, or the priority of what waits in them."""


@set_group.command("queue")
@common_options
@click.option("--mode", type=click.Choice(["normal", "backoff"]), required=True, help="The mode to set.")
@DRY_RUN
@click.argument("pattern")
@click.pass_context
def set_queue(context: click.Context, pattern: str, mode: str, dry_run: bool) -> None:
    """Set the mode of the queues that match PATTERN."""
    _change(context, "queue.mode", f"set to {mode}", dry_run, pattern=pattern, mode=mode)


@set_group.command("priority")
@common_options
@_filters
@DRY_RUN
@click.argument("priority", type=click.IntRange(0, 100))
@click.pass_context
def set_priority(context: click.Context, /, priority: int, dry_run: bool, **filters: str | None) -> None:
    """Let waiting recipients that every given filter fits go with PRIORITY, 0 to 100, within their queues.

    Higher ones go first; others have 50. At least one filter is needed; --queue='*/*' means everybody.
    """
    call = invocation(context)
    chosen = _asked(filters)
    if not any(chosen.values()):
        raise click.UsageError("say which recipients, for example by --jobId or --queue", context)
    data = call.ask("set.priority", **chosen, priority=priority, dryRun=dry_run or None)
    done = "would be set" if dry_run else "set"
    text = f"{data['rcp']} of {data['total']} matching recipients {done} to priority {priority}."
    call.answer(data, text)


@click.command()
@common_options
@click.option("--retry-recipients", is_flag=True, help="Also recipients that wait for a retry of their own.")
@DRY_RUN
@click.argument("pattern")
@click.pass_context
def schedule(context: click.Context, pattern: str, retry_recipients: bool, dry_run: bool) -> None:
    """Try the queues that match PATTERN now, whatever they wait for."""
    call = invocation(context)
    retry = retry_recipients or None
    data = call.ask("queue.schedule", pattern=pattern, retryRecipients=retry, dryRun=dry_run or None)
    if call.as_json:
        call.output.json(data)
        return
    done = "would be scheduled" if dry_run else "scheduled"
    total = data.get("total", data["queues"])
    click.echo(f"{data['queues']} of {total} matching queues {done}.{_alone(pattern, total)}")


@click.command()
@common_options
@_filters
@DRY_RUN
@click.option(
    "--grace", default="0s", show_default=True, help="How long `mta undo delete` can bring them back, as 5m."
)
@click.option("--dsn", is_flag=True, help="Tell the senders.")
@click.option("--no-accounting", is_flag=True, help="Write no b records.")
@click.option("--yes", "-y", is_flag=True, help="Don't ask.")
@click.pass_context
def delete(
    context: click.Context,
    /,
    dry_run: bool,
    grace: str,
    dsn: bool,
    no_accounting: bool,
    yes: bool,
    **filters: str | None,
) -> None:
    """Delete queued recipients that every given filter fits; each gets a b record when the grace is over.

    At least one of --queue, --jobId, --orig and --rcpt is needed. On a terminal it asks before it deletes.
    """
    call = invocation(context)
    chosen = _asked(filters)
    if not any(chosen[name] for name in ("queue", "jobId", "orig", "rcpt")):
        raise click.UsageError("give at least one of --queue, --jobId, --orig and --rcpt", context)
    is_asking = sys.stdin.isatty() and sys.stdout.isatty() and not (yes or dry_run or call.as_json)
    if is_asking:
        found = call.ask("delete", **chosen, dryRun=True)
        if not found["rcp"]:
            click.echo("No recipient matches.")
            return
        click.confirm(f"Delete {_recipients(found)}?", abort=True)
    has_grace = grace != "0s"
    late = grace if has_grace and not dry_run else None
    data = call.ask(
        "delete",
        **chosen,
        dryRun=dry_run or None,
        dsn=dsn or None,
        noAccounting=no_accounting or None,
        grace=late,
    )
    if call.as_json:
        call.output.json(data)
        return
    click.echo(f"{_recipients(data)} {'would be deleted' if dry_run else 'deleted'}.")
    if late and data["rcp"]:
        click.echo(f"`mta undo delete` brings back what was deleted, for {grace} from now.")


@click.group(cls=ShortenedGroup)
def undo() -> None:
    """Take something back."""


@undo.command("delete")
@common_options
@DRY_RUN
@click.pass_context
def undo_delete(context: click.Context, dry_run: bool) -> None:
    """Bring back everything that was deleted with a grace that is not over."""
    call = invocation(context)
    data = call.ask("undo.delete", dryRun=dry_run or None)
    call.answer(data, f"{counted(data['rcp'], 'recipient')} {'would be ' if dry_run else ''}brought back.")


@click.command()
@common_options
@click.option("--retry-recipients", is_flag=True, help="Take a recipient that waits for its retry time.")
@click.option("--log-data", is_flag=True, help="Show the message itself as well.")
@click.option("--log-resolution", is_flag=True, help="Show the hosts that mail may go to.")
@click.option("--to-log", is_flag=True, help="Write it into the server's log as well.")
@click.option("--source-ip", help="Connect from this address.")
@click.argument("queue")
@click.pass_context
def trace(
    context: click.Context,
    queue: str,
    retry_recipients: bool,
    log_data: bool,
    log_resolution: bool,
    to_log: bool,
    source_ip: str | None,
) -> int:
    """Deliver one message of QUEUE (domain/vmta) now, past every limit, and print the dialogue."""
    call = invocation(context)
    data = call.ask(
        "trace",
        queue=queue,
        retryRecipients=retry_recipients or None,
        logData=log_data or None,
        logResolution=log_resolution or None,
        toLog=to_log or None,
        sourceIp=source_ip,
    )
    if call.as_json:
        call.output.json(data)
    else:
        print_dialogue(data.get("lines", ()))
        click.echo(data.get("result", ""))
    return 0 if data.get("delivered", True) else Exit.TEMPORARY


def _change(context: click.Context, command: str, done: str, dry_run: bool, **arguments: str) -> None:
    call = invocation(context)
    data = call.ask(command, **arguments, dryRun=dry_run or None)
    # A pattern that is paused holds for later queues as well.
    pattern = arguments["pattern"]
    more = ", and those to come" if command == "queue.pause" and "*" in pattern else ""
    text = f"{counted(data['queues'], 'queue')} {'would be ' if dry_run else ''}{done}{more}."
    call.answer(data, text + _alone(pattern, data["queues"]))


def _alone(pattern: str, queues: int) -> str:
    """As in PowerMTA a domain alone is its queue of the virtual MTA {default}, which is rarely meant."""
    if queues or "/" in pattern:
        return ""
    return f"\n{pattern} is short for {pattern}/{{default}}; write '{pattern}/*' for all its queues."


def _windows(windows: Iterable[Sequence[float]]) -> str:
    """The times between which a message may be sent, as `x-schedule` writes them."""
    return ", ".join(f"{moment(start)} / {moment(end)}" for start, end in windows)


def _recipients(data: dict[str, Any]) -> str:
    return f"{counted(data['rcp'], 'recipient')} of {counted(data.get('msg', 0), 'message')}"
