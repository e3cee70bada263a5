"""The client of the control socket: asks the running server and returns what it answers.

A Unix stream socket; each line is one JSON object in UTF-8. A connection may ask several times.

    request   {"command": "queue.pause", "pattern": "example.com/*"}
    reply     {"ok": true,  "data": {...}}
              {"ok": false, "error": "no queue matches example.con/*", "hint": "mta show queues"}

A long answer is still one line. Times are epoch seconds (numbers), lengths of time are seconds, `kb` are KiB.
Names in data are PowerMTA's where it has one, so that `--json` suits scripts written for it. Unknown keys in
requests are errors, unknown keys in replies are ignored.

Commands, their arguments (optional in brackets) and their data:

    show.status         {"status": "running" | "starting" | "stopping", "version", "pid", "hostName",
                         "timeNow", "startupTime", "epoch", "configFile", "workers": 1,
                         "traffic": {"total" | "lastHr" | "lastMin" | "topPerHr" | "topPerMin":
                                        {"in" | "out": {"rcp", "msg", "kb"}}},
                         "conn": {"smtpIn" | "smtpOut": {"cur", "top", "max"}},      max 0 = unlimited
                         "resolver": {"namesCached", "queriesPending"},
                         "queue": {"smtp": {"rcp", "dom", "kb"}},
                         "alarms": [one sentence each: what is broken and needs the operator],
                         "settled": {"delivered", "deferred", "failed", "expired", "uncertain"},  recipients
                         "spool": {"dirs": [{"path", "free", "totalRcp", "segments", "broken": ""}],
                                   "totalRcp", "parkedRcp": those that wait on disk alone,
                                   "heldRcp": those in no queue yet, for workers that don't take them now,
                                   "initPct": 100}}
    show.queues         [domain] [vmta] (globs), [paused: bool], [mode: "normal" | "backoff"],
    show.topqueues      [connected: bool], [errors: bool], [maxitems: 20], [sort: "name" | "rcpt" | "size"]
                        {"queue": [{"name": "example.com/v1", "rcp", "kb", "conn", "paused": bool,
                                    "mode": "normal", "state": "ready" | "paused" | "retry",
                                    "retryTime": epoch or 0,
                                    "reason": one sentence why nothing is sent, or "",
                                    "event": [{"type": "...", "time", "text"}]}],          newest first
                         "totalRcp", "totalQueues", "totalQueuesWithRcp",
                         "heldRcp": as in show.status, of all queues}
    show.domains        [domain] [vmta] (globs), [connected: bool], [errors: bool], [maxitems: 20], [sort]
                        {"domain": [{"name", "rcp", "kb", "conn", "lastError"}], "totalRcp", "totalDomains"}
    show.jobs           [maxitems: 20], [sort]
                        {"job": [{"id", "rcp", "kb", "paused": bool, "delivered", "failed"}],    since start
                         "totalRcp", "totalJobs"}
    show.vmtas          [maxitems], [sort]
                        {"vmta": [{"name", "dom", "rcp", "kb", "conn", "sources": ["127.0.0.2"]}], "totalRcp"}
    show.workers        {"timeNow", "worker": [{"id", "pid", "state", "startupTime", "restarts", "role",
                                     "cpus": [0], "domains": patterns, or ["*"] = a share of all others,
                                     "cpuShare": of one processor, "cpu": seconds, "rss": bytes,
                                     all three with the processes that sign for it,
                                     "lag", "lagP99", "lagMax": of the loop in the last minute, seconds,
                                     "queues", "rcp", "connIn", "connOut",
                                     "handedOver": shares to other workers,
                                     "held", "adopted": recipients on their way to other workers}]}
    show.disabledsources [queue: "domain[/vmta]"]
                        {"source": [{"queue": queue or pattern, "ip", "until": epoch, 0 = by hand}]}
    show.precache       {"domain": [{"name", "status", "hosts", "ips": how many,
                                     "time": of the last question}], "totalDomains"}
    show.version        {"name", "version", "python", "revision"}
    list                [queue] [rcpt] [orig] (globs), [jobId], [envId], [olderThan: "4h"], [maxitems: 100]
                        {"rcpt": [{"queueId", "orig", "rcpt", "queue", "jobId", "envId", "timeQueued",
                                   "attempts", "nextTry": epoch or 0, "size", "priority": 0 to 100,
                                   "paused": bool, "schedule": [[from, until: epochs]],
                                   "heldFor": number of the worker that owns the queue and does not take it
                                   now, else null}],
                         "total": matches in all}
    why                 queue                   {"queue", "text": one sentence, "directive": "" or what sets
                                                 the limit, "place": "FILE:LINE" or "its default"}
    queue.pause         pattern, [dryRun]       {"queues": number that changed}
    queue.resume        pattern, [dryRun]       {"queues": number that changed}
    queue.mode          pattern, mode: "normal" | "backoff", [dryRun]
                                                {"queues": number that changed}
    queue.schedule      pattern, [retryRecipients: bool], [dryRun: bool]
                                                {"queues": that had to wait and go now, "total": that matched}
    job.pause           job, [dryRun]           {"jobs": 1 when it is new, "rcp": recipients kept back}
    job.resume          job, [dryRun]           {"jobs": 1 when it was paused, "rcp": let go}
    source.disable      ip, [pattern: "*/*"], [reenableAfter: "1h30m"], [dryRun]
                                                {"queues": that there are; those to come follow as well}
    source.enable       ip, [pattern: "*/*"], [dryRun]
                                                {"queues": that may use it again}
    delete              [queue] [jobId] [orig] [rcpt] [envId] [olderThan], [dryRun: bool], [dsn: bool],
                        [noAccounting: bool], [grace: "5m"] (at least one of queue, jobId, orig, rcpt)
                                                {"rcp": number, "msg": number}
    set.priority        priority: 0 to 100, [queue] [jobId] [orig] [rcpt] [envId] [olderThan] (at least one),
                        [dryRun: bool]          {"rcp": that had another one, "total": that match}
    undo.delete         [dryRun]                {"rcp": brought back, while their grace lasts}
    trace               queue, [retryRecipients: bool], [logData: bool], [logResolution: bool], [sourceIp],
                        [toLog: bool]: the server's log has the lines as well
                                                {"lines": [{"time", "text"}], "result", "delivered": bool}
    resolve             domain[/vmta], [connect: bool], [vmta: "{default}"], [sourceIp], [hostName]: for EHLO,
                        [server: "IP[:PORT]"]: a name server to ask instead, [tcp: bool], [dumpPackets: bool];
                        with one of these three nothing comes from the server's cache
                        {"queue": where new mail for the domain waits (queue-to),
                         "status": of the MX question, "host": [{"pref", "name", "ip": [...]}],
                         "route": [{"host", "ip", "port", "pref"}], where mail really goes,
                         "routeError": "" or why it goes nowhere,
                         "connect": [{"host", "ip", "port", "result", "lines": [{"time", "text"}]}],
                         "packet": [one text for each question and answer]}
    clear.dnscache      domain ("*" = all)      {"names": number}
    reload              {"epoch", "problems": [{"file", "line", "severity", "text", "hint"}]}; with errors the
                        old configuration stays, ok is false, and the reply carries "problems" beside "error"
    rotate              what: "acct", [file]    {"files": [names of the closed files]}
                        what: "log"             {"files": [name of the new file]}
    reset.counters      {}
"""

from __future__ import annotations

import json
import socket
from pathlib import Path
from typing import Any

__all__ = ["ControlFailure", "Unreachable", "ask"]

#: A trace talks to a remote server; everything else answers at once.
ANSWER_DEADLINE = 30.0
TRACE_DEADLINE = 300.0


#: sysexits(3)
EX_UNAVAILABLE = 69
EX_TEMPFAIL = 75
EX_NOPERM = 77


class ControlFailure(Exception):
    """The server refused the command; `hint` says what may help, `reply` is all that it said."""

    def __init__(self, text: str, hint: str = "", reply: dict[str, Any] | None = None) -> None:
        super().__init__(text)
        self.hint = hint
        self.reply = reply or {}


class Unreachable(ControlFailure):
    """Nobody answers on the control socket; `code` is the exit code (sysexits) for it."""

    def __init__(self, text: str, hint: str = "", code: int = EX_UNAVAILABLE) -> None:
        super().__init__(text, hint)
        self.code = code


def ask(path: Path, command: str, **arguments: Any) -> Any:
    """The server's answer (its data); arguments of None are not sent. Raises Unreachable, ControlFailure."""
    request = {"command": command, **{name: value for name, value in arguments.items() if value is not None}}
    deadline = TRACE_DEADLINE if command == "trace" else ANSWER_DEADLINE
    line = _exchange(path, json.dumps(request, ensure_ascii=False).encode() + b"\n", deadline)
    try:
        reply = json.loads(line)
        is_fine = bool(reply["ok"])
    except (ValueError, KeyError, TypeError):
        raise ControlFailure("the server's answer can't be read", "are both of the same version?") from None
    if is_fine:
        return reply.get("data")
    raise ControlFailure(str(reply.get("error", "refused")), str(reply.get("hint", "")), reply)


def _exchange(path: Path, request: bytes, deadline: float) -> bytes:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(deadline)
        try:
            connection.connect(str(path))
        except OSError as error:
            raise _no_connection(path, error) from None
        try:
            connection.sendall(request)
            with connection.makefile("rb") as answers:
                line = answers.readline()
        except TimeoutError:
            text = f"the server did not answer within {deadline:g} seconds"
            raise Unreachable(text, "it may be busy; try again", EX_TEMPFAIL) from None
        except OSError as error:
            text = f"the connection to the server broke: {error.strerror or error}"
            raise Unreachable(text, code=EX_TEMPFAIL) from None
    if not line.endswith(b"\n"):
        raise Unreachable("the server closed the connection without an answer", code=EX_TEMPFAIL)
    return line


def _no_connection(path: Path, error: OSError) -> Unreachable:
    if isinstance(error, FileNotFoundError):
        return Unreachable(f"no server is running: {path} doesn't exist", "start it with mta run -c FILE")
    if isinstance(error, ConnectionRefusedError):
        return Unreachable(f"no server listens on {path}", "it has ended; start it with mta run -c FILE")
    if isinstance(error, PermissionError):
        hint = "run the command as root or as the server's user"
        return Unreachable(f"this user may not use {path}", hint, EX_NOPERM)
    return Unreachable(f"cannot connect to {path}: {error.strerror or error}")
