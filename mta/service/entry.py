"""Where a spawned child process begins: `python -m mta.service.entry ROLE CONFIG NAME --fds 5,6,7`.

Not for people: the supervisor starts it. The first descriptor is the channel to the supervisor, the others
are listening sockets, one for each listener of the configuration in order. `--config-fd` is a file with the
configuration as the supervisor has read it.
"""

from __future__ import annotations

import argparse
import logging
import os
import signal
import socket
import sys
from pathlib import Path

from mta.clock import SystemClock
from mta.config.load import load
from mta.service.handedover import received
from mta.service.logs import set_up_logging
from mta.service.loop import run
from mta.service.recorder import Recorder
from mta.service.workerprocess import WorkerProcess

__all__ = ["main"]

log = logging.getLogger(__name__)

EX_CONFIG = 78


def main(arguments: list[str]) -> int:
    """Become the worker or the events process; returns its exit code."""
    parser = argparse.ArgumentParser(prog="mta.service.entry")
    parser.add_argument("role", choices=("worker", "events"))
    parser.add_argument("config", type=Path)
    parser.add_argument("name")
    parser.add_argument("--epoch", type=int, default=1)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--adopt", type=int, nargs="*", default=())
    parser.add_argument("--config-fd", type=int, required=True)
    parser.add_argument("--fds", required=True)
    options = parser.parse_args(arguments)
    # The supervisor decides when to end, also when somebody signals the whole group: Ctrl-C, or a service
    # manager that knows no better. A handler, because what is ignored stays ignored in programs we start.
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1):
        signal.signal(number, lambda *_: None)
    # The configuration in force, not what the files say by now.
    loaded = load(options.config, epoch=options.epoch, reading=received(options.config_fd))
    if loaded.snapshot is None:
        return EX_CONFIG
    set_up_logging(loaded.snapshot.top)
    os.umask(0o077)
    channel, *listeners = (socket.socket(fileno=int(number)) for number in options.fds.split(","))
    process: WorkerProcess | Recorder
    if options.role == "worker":
        process = WorkerProcess(
            options.config,
            loaded.snapshot,
            name=options.name,
            listeners=listeners,
            clock=SystemClock(),
            workers=options.workers,
            adopted=options.adopt,
        )
    else:
        process = Recorder(options.config, loaded.snapshot, clock=SystemClock())
    return run(process.run(channel))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
