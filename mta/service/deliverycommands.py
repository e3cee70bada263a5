"""Commands about single deliveries and their ways: trace, resolve, why, source addresses."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine
from ipaddress import ip_address
from math import isinf
from typing import TYPE_CHECKING, Any

from mta.clock import Clock
from mta.config.problems import Origin
from mta.config.units import parse_interval
from mta.config.values import parse_host_port
from mta.delivery.connection import DialFailure
from mta.delivery.dialogue import Dialogue
from mta.errors import RouteError
from mta.queue.explain import TOP, VMTA, Reason
from mta.queue.key import QueueKey
from mta.routing.resolver import Answer, Resolver, Status
from mta.routing.router import Target
from mta.service.channel import CommandFailed
from mta.service.routes import DNS_PORT, make_resolver

if TYPE_CHECKING:
    from mta.service.worker import Worker

__all__ = ["DeliveryCommands", "queue_key"]

log = logging.getLogger(__name__)

#: What holds in backoff is what holds else, until it is written.
FOLLOWING = frozenset({"backoff-max-msg-rate", "backoff-max-connect-rate", "backoff-max-data-volume-rate"})
#: What `initial-pts` stands in for.
LADDERS = frozenset({"retry-after", "retry-recipients-after"})
#: Hosts whose addresses are looked up, and tried with `--connect`.
HOSTS_LIMIT = 20


def queue_key(text: str) -> QueueKey:
    """`domain[/vmta]` as an operator writes it. Raises CommandFailed."""
    domain, slash, vmta = text.strip().partition("/")
    if not domain or (slash and not vmta) or "*" in text:
        raise CommandFailed(f"{text!r} is not one queue: write domain/vmta")
    return QueueKey(domain.lower(), vmta or "{default}")


class DeliveryCommands:
    """`commands` by name; request and reply shapes are in `mta/cli/control.py`."""

    def __init__(self, worker: Worker, *, clock: Clock) -> None:
        self._worker = worker
        self._clock = clock
        self.commands: dict[str, Callable[..., Coroutine[Any, Any, Any]]] = {
            "trace": self._trace,
            "resolve": self._resolve,
            "why": self._why,
            "show.precache": self._precached,
            "show.disabledsources": self._disabled_sources,
            "source.disable": self._disable_source,
            "source.enable": self._enable_source,
        }

    def _queue(self, text: str) -> QueueKey:
        """`domain[/vmta]`, of a virtual MTA that there is or of one that mail still waits for.

        Raises CommandFailed.
        """
        key = queue_key(text)
        worker = self._worker
        is_kept = any(worker.scheduler.queues(self._clock.now(), str(key)))
        if key.vmta not in worker.snapshot.vmtas and not is_kept:
            raise CommandFailed(f"there is no virtual-mta {key.vmta}")
        return key

    # -- one delivery ------------------------------------------------------------------------------------

    async def _trace(
        self,
        queue: str,
        retryRecipients: bool = False,
        logData: bool = False,
        logResolution: bool = False,
        sourceIp: str = "",
        toLog: bool = False,
    ) -> dict[str, Any]:
        worker = self._worker
        if worker.alarms:
            raise CommandFailed(worker.alarms[0])
        try:
            trace = await worker.outbound.tracer.trace(
                self._queue(queue),
                with_data=logData,
                with_resolution=logResolution,
                with_deferred=retryRecipients,
                source_ip=normal_ip(sourceIp) if sourceIp else "",
            )
        finally:
            worker.dispatcher.wake()
        for line in trace.lines if toLog else ():
            log.info("queue=%s event=trace wire=%r", queue, line.text)
        return {
            "lines": [{"time": line.time, "text": line.text} for line in trace.lines],
            "result": trace.result,
            "delivered": trace.delivered,
        }

    # -- ways --------------------------------------------------------------------------------------------

    async def _resolve(
        self,
        domain: str,
        connect: bool = False,
        vmta: str = "",
        sourceIp: str = "",
        hostName: str = "",
        **asking: Any,
    ) -> dict[str, Any]:
        worker, resolver = self._worker, self._worker.outbound.directions.resolver
        packets: list[str] = []
        if asking:
            resolver = self._own_resolver(packets, **asking)
        key = self._queue(f"{domain}/{vmta}" if vmta else domain)
        domain = key.domain.rstrip(".")
        # The same step that new mail takes: what `queue-to` says wins over the domain's own hosts.
        key = QueueKey(
            worker.snapshot.effective(domain, key.vmta).text("queue-to").lower() or domain, key.vmta
        )
        answer = await resolver.mx(domain)
        named = sorted((record.preference, record.host) for record in answer.mx if record.host)[:HOSTS_LIMIT]
        if answer.status is Status.NO_DATA:
            named = [(0, domain)]  # RFC 5321 5.1: then the domain itself is the host
        async with asyncio.TaskGroup() as company:
            looking = [company.create_task(resolver.addresses(host, ipv6=True)) for _, host in named]
        hosts = [
            {"pref": preference, "name": host, "ip": list(found.result().addresses)}
            for (preference, host), found in zip(named, looking, strict=True)
        ]
        try:
            if asking:
                router = worker.outbound.directions.router.asking(resolver)
                targets = await router.route(key, worker.in_force.route(key))
            else:
                targets = await worker.outbound.directions.routes.route(key)
            no_route = ""
        except RouteError as error:
            targets, no_route = (), str(error)
        data: dict[str, Any] = {
            "queue": str(key),
            "status": mx_status(answer),
            "host": hosts,
            "route": [{"host": t.host, "ip": t.ip, "port": t.port, "pref": t.preference} for t in targets],
            "routeError": no_route,
        }
        if connect:
            data["connect"] = [
                await self._knock(key, target, sourceIp, hostName) for target in targets[:HOSTS_LIMIT]
            ]
        if asking.get("dumpPackets"):
            data["packet"] = packets
        return data

    def _own_resolver(
        self, packets: list[str], *, server: str = "", tcp: bool = False, dumpPackets: bool = False
    ) -> Resolver:
        """One that knows nothing yet and asks as it is told. Raises CommandFailed."""
        try:
            address = parse_host_port(server) if server else None
        except ValueError as error:
            raise CommandFailed(str(error)) from None
        return make_resolver(
            self._worker.snapshot,
            self._clock,
            server=None if address is None else (normal_ip(address.host), address.port or DNS_PORT),
            over_tcp=tcp,
            heard=packets.append if dumpPackets else None,
        )

    async def _knock(self, key: QueueKey, target: Target, source_ip: str, host_name: str) -> dict[str, Any]:
        """Greet one host and leave."""
        worker = self._worker
        dialogue = Dialogue(clock=self._clock)
        source = worker.in_force.vmta(key.vmta).sources[0]
        result = "ready for mail"
        try:
            connection = await worker.outbound.dialer.watched(dialogue).dial(
                [target],
                source_ip=normal_ip(source_ip) if source_ip else source.ip,
                host_name=host_name or source.host_name or worker.in_force.host_name(),
                policy=worker.in_force.delivery(key),
            )
        except DialFailure as failure:
            result = str(failure.reply)
        else:
            connection.transport.write(b"QUIT\r\n")
            connection.transport.close()
        return {
            "host": target.host,
            "ip": target.ip,
            "port": target.port,
            "result": result,
            "lines": [{"time": line.time, "text": line.text} for line in dialogue.lines],
        }

    async def _why(self, queue: str) -> dict[str, Any]:
        key = self._queue(queue)
        reason = self._worker.scheduler.reason(key, self._clock.now())
        directive, origin = self._written(key, reason)
        place = "" if not directive else str(origin) if origin is not None else "its default"
        text = f"{reason.text} ({directive}: {place})" if directive else reason.text
        return {"queue": str(key), "text": text, "directive": directive, "place": place}

    def _written(self, key: QueueKey, reason: Reason) -> tuple[str, Origin | None]:
        """The directive that makes a queue wait, and where it was written."""
        snapshot, name = self._worker.snapshot, reason.directive
        if not name:
            return "", None
        if reason.scope == TOP:
            return name, snapshot.top.origin(name)
        if reason.scope == VMTA:
            member = snapshot.vmtas.get(key.vmta)
            return name, None if member is None else member.settings.origin(name)
        settings = snapshot.effective(key.domain, key.vmta)
        if name in FOLLOWING and not settings.is_set(name):
            plain = name.removeprefix("backoff-")
            if settings.is_set(plain):
                return plain, settings.origin(plain)
        if name in LADDERS and settings.integer("initial-pts"):
            name = "initial-pts"
        return name, settings.origin(name)

    async def _precached(self) -> dict[str, Any]:
        rows = [
            {
                "name": found.name,
                "status": found.status.value,
                "hosts": found.hosts,
                "ips": found.addresses,
                "time": found.asked_at,
            }
            for found in self._worker.outbound.directions.precache
        ]
        return {"domain": sorted(rows, key=lambda row: str(row["name"])), "totalDomains": len(rows)}

    # -- source addresses --------------------------------------------------------------------------------

    async def _disabled_sources(self, queue: str = "") -> dict[str, Any]:
        rows = self._worker.scheduler.disabled_sources(self._clock.now())
        wanted = queue.lower()
        return {
            "source": [
                {"queue": name, "ip": ip, "until": 0 if isinf(until) else until}
                for name, ip, until in rows
                if not wanted or name == wanted or name.partition("/")[0] == wanted
            ]
        }

    async def _disable_source(
        self, ip: str, pattern: str = "*/*", reenableAfter: str = "", dryRun: bool = False
    ) -> dict[str, Any]:
        lasting = parse_interval(reenableAfter) if reenableAfter else None
        address = normal_ip(ip)
        if dryRun:
            return {"queues": sum(1 for _ in self._worker.scheduler.queues(self._clock.now(), pattern))}
        changed = self._worker.scheduler.disable_source(pattern, address, self._clock.now(), lasting)
        self._worker.save_state()
        return {"queues": changed}

    async def _enable_source(self, ip: str, pattern: str = "*/*", dryRun: bool = False) -> dict[str, Any]:
        if dryRun:
            return {"queues": self._worker.scheduler.without_source(pattern, normal_ip(ip))}
        changed = self._worker.scheduler.enable_source(pattern, normal_ip(ip), self._clock.now())
        self._worker.dispatcher.wake()
        self._worker.save_state()
        return {"queues": changed}


def normal_ip(text: str) -> str:
    """An address in its one spelling. Raises CommandFailed."""
    try:
        return str(ip_address(text.strip().strip("[]")))
    except ValueError:
        raise CommandFailed(f"{text!r} is not an IP address") from None


def mx_status(answer: Answer) -> str:
    """How the question for MX records ended, in a few words."""
    if answer.status is Status.FOUND:
        is_null = len(answer.mx) == 1 and not answer.mx[0].host
        return "null MX: takes no mail" if is_null else "success"
    if answer.status is Status.NO_DATA:
        return "no MX record: the domain itself is the host"
    return answer.text or answer.status.value
