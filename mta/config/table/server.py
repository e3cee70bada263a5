"""Top-level directives: the process, its spool, its identity, and where it sends from."""

from __future__ import annotations

from mta.config.kinds import Directive, Kind, Scope, Status
from mta.config.table.places import EGRESS, GLOBAL, only

__all__ = ["ROWS"]

NO = Status.NO_EFFECT
OLD = Status.DEPRECATED_ALIAS
OURS = Status.EXTENSION

_PROCESS = (
    Directive(
        "total-max-smtp-out",
        GLOBAL,
        Kind.INTEGER,
        "1200",
        "How many outbound connections the whole server may have open at once.",
        minimum=0,
    ),
    Directive(
        "total-max-smtp-in",
        GLOBAL,
        Kind.INTEGER,
        "100",
        "How many inbound SMTP connections the whole server serves at once; the next one is told 421.",
        minimum=0,
    ),
    Directive("total-max-file", GLOBAL, Kind.INTEGER, None, "Concurrency of deliveries of `type file`.", NO),
    Directive(
        "postmaster",
        GLOBAL,
        Kind.ADDRESS,
        None,
        "The person who runs this server; meant to get its alarms and the mail to its own postmaster "
        "and abuse addresses.",
        NO,
        repeatable=True,
    ),
    Directive(
        "run-as-root",
        GLOBAL,
        Kind.BOOLEAN,
        "no",
        "Whether a server started by root stays root. With `no` it becomes the user of `process-user`, or "
        "the user mta, once its ports are open; PowerMTA's default is yes.",
    ),
    Directive(
        "process-user",
        GLOBAL,
        Kind.TEXT,
        None,
        "The account that a server started by root becomes once its ports are open (default: mta).",
        OURS,
        hint="PowerMTA has only run-as-root no, which means its user pmta",
    ),
    Directive(
        "max-memory-usage-percent",
        GLOBAL,
        Kind.PERCENT,
        "90",
        "Share of the machine's memory above which new mail is put off; 100 means never.",
        NO,
        minimum=1,
        maximum=100,
    ),
    Directive(
        "thread-min-priority", GLOBAL, Kind.INTEGER, "15", "Nice value of the least urgent threads.", NO
    ),
    Directive("thread-max-priority", GLOBAL, Kind.INTEGER, "0", "Nice value of the most urgent threads.", NO),
    Directive(
        "thread-reuse", GLOBAL, Kind.BOOLEAN, "yes", "Whether idle threads are kept for the next job.", NO
    ),
    Directive(
        "volume-audit-api-key",
        GLOBAL,
        Kind.TEXT,
        None,
        "Licence key of PowerMTA's volume plans; nothing here is licensed by volume.",
        NO,
    ),
    Directive(
        "include",
        only(Scope.GLOBAL, Scope.SOURCE, Scope.DOMAIN, Scope.VIRTUAL_MTA, Scope.SMTP_PATTERN_LIST),
        Kind.FILE,
        None,
        "Reads another file, or every file that a wildcard matches, as if its lines stood here.",
        repeatable=True,
    ),
    Directive(
        "domain-macro",
        GLOBAL,
        Kind.ENTRY,
        None,
        "`NAME a,b,c` gives a list of domains a name; `$NAME` then stands for each of them.",
        repeatable=True,
    ),
    Directive(
        "mailmerge-expands-undefined-variables",
        GLOBAL,
        Kind.BOOLEAN,
        "yes",
        "Whether a mail-merge field without a value becomes empty text instead of staying as written.",
    ),
    Directive(
        "track-time-first-attempt",
        GLOBAL,
        Kind.BOOLEAN,
        "no",
        "Remembers when each recipient was first tried, for the accounting field timeFirstAttempt.",
        NO,
    ),
    Directive(
        "pmc-acct-min-free-space",
        GLOBAL,
        Kind.SIZE,
        "unlimited",
        "Free space under which records for PowerMTA's companion console are dropped.",
        NO,
    ),
    Directive(
        "alias",
        only(Scope.GLOBAL, Scope.ALIASES),
        Kind.ENTRY,
        None,
        "`FROM TO[,TO...]` forwards mail for an address, a local part or `*@domain`.",
        repeatable=True,
    ),
)

_SPOOL = (
    Directive(
        "spool",
        GLOBAL,
        Kind.DIRECTORY,
        None,
        "Directory in which accepted mail waits; the same as an empty `<spool DIR>` block.",
        repeatable=True,
    ),
    Directive(
        "disk-queue",
        GLOBAL,
        Kind.DIRECTORY,
        None,
        "Another name for `spool`.",
        OURS,
        alias_of="spool",
        repeatable=True,
        hint="PowerMTA writes `<spool DIR>`",
    ),
    Directive(
        "control-socket",
        GLOBAL,
        Kind.FILE,
        "/run/mta/control.sock",
        'Unix socket on which the running server takes the commands of `mta`; `""` opens none.',
        OURS,
    ),
    Directive(
        "workers",
        GLOBAL,
        Kind.INTEGER,
        "auto",
        "How many worker processes share the queues; `auto` is one for each processor that the service may "
        "use (taskset and a container's quota count). A change needs a restart.",
        OURS,
        choices=("auto",),
        minimum=1,
    ),
    Directive(
        "worker",
        GLOBAL,
        Kind.INTEGER,
        None,
        "Another name for `workers`.",
        OURS,
        alias_of="workers",
        choices=("auto",),
        hint="write workers",
    ),
    Directive(
        "memory-pool-buffer-size",
        GLOBAL,
        Kind.SIZE,
        "64M",
        "How many bytes of young messages are kept in memory so that a first attempt need not read the "
        "disk; every message is on disk all the same.",
        OURS,
        minimum=0,
    ),
    Directive(
        "max-recipients-in-memory",
        GLOBAL,
        Kind.INTEGER,
        "2000000",
        "How many queued recipients are kept in mind, at 16 bytes each, by all workers together; what is "
        "beyond waits on disk alone until its queue gets there. 0 means all.",
        OURS,
        minimum=0,
    ),
    Directive(
        "spool-delete-corrupted",
        GLOBAL,
        Kind.BOOLEAN,
        "no",
        "Deletes damaged spool entries at start; here they always go to the spool's quarantine.",
        NO,
    ),
    Directive(
        "spool-min-free-space",
        GLOBAL,
        Kind.INTEGER,
        "0",
        "Megabytes that must stay free; old form of `min-free-space` in `<spool>`.",
        NO,
        hint="write min-free-space in <spool>",
    ),
    Directive(
        "spool-max-recipients",
        GLOBAL,
        Kind.INTEGER,
        "auto",
        "How many recipients may wait in all before new mail is put off with a 4xx.",
        NO,
        choices=("auto",),
    ),
    Directive(
        "sync-msg-create",
        GLOBAL,
        Kind.BOOLEAN,
        "yes",
        "Whether a new message is flushed to the disk before it is acknowledged; here it always is.",
        NO,
    ),
    Directive(
        "sync-msg-update",
        GLOBAL,
        Kind.BOOLEAN,
        "yes",
        "Whether results are flushed to the disk; here they always are, many at a time.",
        NO,
    ),
    Directive(
        "delete-file-holders",
        only(Scope.SPOOL),
        Kind.BOOLEAN,
        "no",
        "Removes emptied spool files instead of keeping them for reuse.",
    ),
    Directive(
        "deliver-only",
        only(Scope.SPOOL),
        Kind.BOOLEAN,
        "no",
        "Empties this spool and writes nothing new to it.",
    ),
    Directive(
        "priority",
        only(Scope.SPOOL),
        Kind.INTEGER,
        "1",
        "Which of several spools is filled first, the highest number winning.",
        NO,
        minimum=1,
        maximum=100,
    ),
    Directive(
        "min-free-space",
        only(Scope.SPOOL),
        Kind.SIZE,
        "0",
        "Free space of the file system under which new mail is refused with 452.",
    ),
)

_IDENTITY = (
    Directive(
        "host-name",
        only(Scope.GLOBAL, Scope.VIRTUAL_MTA),
        Kind.HOST_NAME,
        None,
        "Name in greetings, EHLO and Received lines (default: the machine's own); the first one counts, "
        "and mail for each of them is accepted. In a virtual MTA: its EHLO name.",
        repeatable=True,
    ),
    Directive(
        "host-id", GLOBAL, Kind.INTEGER, "0", "A number of this machine, for the Message-IDs it makes.", NO
    ),
    Directive(
        "domain-suffix",
        GLOBAL,
        Kind.TEXT,
        None,
        "Domain that completes bare host names in addresses (default: the one `host-name` is in).",
    ),
    Directive(
        "name-server",
        GLOBAL,
        Kind.HOST_PORT,
        None,
        "DNS server to ask (default: those of /etc/resolv.conf); several are used in turn. A port may "
        "follow, which is our extension.",
        repeatable=True,
    ),
    Directive(
        "edns-udp-length",
        GLOBAL,
        Kind.INTEGER,
        None,
        "Size of DNS answers over UDP that is announced to the server.",
        NO,
    ),
)

_EGRESS = (
    Directive(
        "smtp-source-host",
        only(Scope.GLOBAL, Scope.VIRTUAL_MTA),
        Kind.WORDS,
        None,
        "`IP NAME`: a local address to send from, and the EHLO name that goes with it; several are used "
        "in turn.",
        repeatable=True,
    ),
    Directive(
        "smtp-source-ip",
        only(Scope.GLOBAL, Scope.VIRTUAL_MTA),
        Kind.IP,
        None,
        "A local address to send from; the EHLO name is the `host-name`.",
        repeatable=True,
    ),
    Directive(
        "smtp-proxy-source-host",
        only(Scope.GLOBAL, Scope.VIRTUAL_MTA),
        Kind.WORDS,
        None,
        "Sends through a proxy: `LOCAL-IP PROXY:PORT CLIENT-IP NAME`.",
        repeatable=True,
    ),
    Directive(
        "use-proxy",
        only(Scope.GLOBAL, Scope.VIRTUAL_MTA),
        Kind.TEXTS,
        None,
        "`<proxy>` blocks to send through, the next one when the one before is down.",
    ),
    Directive(
        "proxy-protocol",
        only(Scope.VIRTUAL_MTA),
        Kind.ENUM,
        "1",
        "Version of the HAProxy protocol towards `smtp-proxy-source-host`.",
        choices=("1", "2"),
    ),
    Directive(
        "mx-connection-limit",
        GLOBAL,
        Kind.PATTERN_INTEGER,
        None,
        "Connections from one local address to one MX host whose name matches.",
        repeatable=True,
    ),
    Directive(
        "ip-connection-limit",
        GLOBAL,
        Kind.NETWORK_INTEGER,
        None,
        "Connections from one local address to one address in a network.",
        repeatable=True,
    ),
    Directive(
        "invalid-virtual-mta-fallback",
        GLOBAL,
        Kind.TEXT,
        None,
        "Virtual MTA that takes mail for one that does not exist.",
    ),
    Directive(
        "include-headers-from",
        EGRESS,
        Kind.FILE,
        None,
        "File with header lines to put on top of every message.",
    ),
    Directive(
        "domain-key",
        only(Scope.GLOBAL, Scope.VIRTUAL_MTA, Scope.POOL, Scope.DOMAIN_KEY_LIST),
        Kind.ENTRY,
        None,
        "`SELECTOR,DOMAIN,FILE`: a DKIM key; it signs for the domain and what lies under it, `*` for "
        "every domain.",
        repeatable=True,
    ),
    Directive("enable-signals", EGRESS, Kind.TEXT, None, "Feeds SparkPost Signals.", NO),
)

ROWS: tuple[Directive, ...] = (*_PROCESS, *_SPOOL, *_IDENTITY, *_EGRESS)
