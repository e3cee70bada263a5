"""Draft to snapshot: merges layers, expands source hosts, resolves listeners and pools."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import TypeVar

from mta.config.addresslines import address_books, aliases, rewrite_lists
from mta.config.coldlines import expand_cold_lines
from mta.config.directives import TABLE
from mta.config.domainpattern import DomainPattern, DomainTable
from mta.config.draft import BlockDraft, Draft, OwnerDraft
from mta.config.kinds import Scope
from mta.config.networks import NetworkTable, parse_address, parse_network
from mta.config.problems import Origin, Problems
from mta.config.proxy import Proxy
from mta.config.proxylines import named_proxies, proxy_source, used_proxies
from mta.config.quoting import read_regex, split_words
from mta.config.regex import Pattern, compile_pattern
from mta.config.rollups import Rollup, RollupLine, gather_rollups, read_rollup_line
from mta.config.settings import Layer, Setting, Settings, WrittenLine, merge
from mta.config.snapshot import (
    DEFAULT_VMTA,
    AcctFile,
    EgressSource,
    Listener,
    Pool,
    Rules,
    SmtpUser,
    Snapshot,
    SpoolBlock,
    VirtualMta,
)
from mta.config.units import format_interval
from mta.config.values import HostPort, parse_host_port

__all__ = ["assemble"]

Item = TypeVar("Item")

#: A range of source hosts larger than this is a mistake (an IPv6 /64, say).
MAX_RANGE = 4096

#: Where SMTP is accepted when nobody says.
DEFAULT_LISTENER = HostPort("0.0.0.0", 25)


def assemble(draft: Draft, *, files: tuple[Path, ...], epoch: int, problems: Problems) -> Snapshot:
    """The snapshot of a draft; names that refer to nothing are left to `check_references`."""
    warm_of = expand_cold_lines(draft, problems)
    for owner in (draft.top, *draft.vmtas.values(), *draft.pools.values()):
        for layer in (owner.layer, *owner.domains.values()):
            _derive_waits(layer)
    top = draft.top.layer
    homes = _home_pools(draft, problems)
    homes |= {cold: homes[warm] for cold, warm in warm_of.items() if warm in homes}
    proxies = named_proxies(draft, problems)
    relay_addresses, relay_regexes = _relay_addresses(top, problems)
    return Snapshot(
        epoch=epoch,
        files=files,
        top=_settings(Scope.GLOBAL, top),
        vmtas=MappingProxyType(_vmtas(draft, homes, proxies, problems)),
        pools=MappingProxyType(_pools(draft)),
        listeners=_listeners(draft, problems),
        spools=_spools(draft),
        acct_files=_files(draft, Scope.ACCT_FILE),
        reject_files=_files(draft, Scope.REJECT_FILE),
        smtp_users=MappingProxyType(_smtp_users(draft)),
        bounce_rules=tuple(draft.bounce_rules),
        workers=_blocks(draft, Scope.WORKER),
        dns=_settings(Scope.DNS, *(block.layer for block in draft.of(Scope.DNS))),
        source_groups=_blocks(draft, Scope.SOURCE_GROUP),
        written=tuple(draft.written),
        rules=_rules(draft.top),
        vmta_rules=MappingProxyType({name: _rules(owner) for name, owner in draft.vmtas.items()}),
        pool_rules=MappingProxyType({name: _rules(owner) for name, owner in draft.pools.items()}),
        source_networks=_networks(draft),
        source_base=_shared(top, Scope.SOURCE),
        named_sources=MappingProxyType(draft.named_sources),
        categories=tuple(draft.categories),
        rollups=_rollups(draft, problems),
        reply_lists=_frozen(draft.reply_lists),
        address_lists=_frozen(draft.address_lists),
        key_lists=_frozen(draft.key_lists),
        relay_domains=_relay_domains(top),
        relay_addresses=relay_addresses,
        relay_regexes=relay_regexes,
        aliases=aliases(draft, problems),
        rewrite_lists=rewrite_lists(draft, problems),
        address_books=address_books(draft, problems),
    )


def _frozen(lists: Mapping[str, Iterable[Item]]) -> Mapping[str, tuple[Item, ...]]:
    return MappingProxyType({name: tuple(found) for name, found in lists.items()})


def _blocks(draft: Draft, scope: Scope) -> Mapping[str, Settings]:
    """Settings of blocks that stand for themselves, by their argument."""
    return MappingProxyType({block.argument: _settings(scope, block.layer) for block in draft.of(scope)})


def _pools(draft: Draft) -> dict[str, Pool]:
    shared = _shared(draft.top.layer, Scope.POOL)
    return {
        name: Pool(
            name,
            tuple(dict.fromkeys(member for member, _origin in pool.members)),
            _settings(Scope.POOL, shared, pool.layer),
        )
        for name, pool in draft.pools.items()
    }


def _smtp_users(draft: Draft) -> dict[str, SmtpUser]:
    return {name: SmtpUser(name, settings) for name, settings in _blocks(draft, Scope.SMTP_USER).items()}


def _networks(draft: Draft) -> NetworkTable[Layer]:
    return NetworkTable(
        (network, layer) for networks, layer in draft.networks.items() for network in networks
    )


def _rollups(draft: Draft, problems: Problems) -> tuple[Rollup, ...]:
    lines: list[RollupLine] = []
    for block in draft.of(Scope.MX_ROLLUP_LIST):
        setting = block.layer.get("mx")
        for line in setting.lines if setting is not None else ():
            try:
                lines.append(read_rollup_line(line.text, line.origin))
            except ValueError as error:
                problems.error(line.origin, str(error))
    return gather_rollups(lines)


def _settings(scope: Scope, *layers: Layer) -> Settings:
    return Settings(scope, MappingProxyType(merge(layers)))


def _shared(layer: Layer, scope: Scope) -> Layer:
    """What of `layer` also has a meaning in `scope`: the same row of the table, so the same meaning."""
    return {name: setting for name, setting in layer.items() if scope in setting.directive.scopes}


def _rules(owner: OwnerDraft) -> Rules:
    entries = ((pattern, macro, layer) for (pattern, macro), layer in owner.domains.items())
    return Rules(_shared(owner.layer, Scope.DOMAIN), DomainTable(entries), tuple(owner.keys))


def _derive_waits(layer: Layer) -> None:
    """`initial-pts` and `max-pts` (seconds, doubling in between) to the waits that PowerMTA's names give."""
    first = layer.get("initial-pts")
    if first is None or not isinstance(first.value, int) or not first.value:
        return
    ceiling = layer["max-pts"].value if "max-pts" in layer else 0
    waits = [first.value]
    while len(waits) < 30 and waits[-1] < ceiling:
        waits.append(min(waits[-1] * 2, ceiling))
    origin = first.lines[-1].origin
    derived = {
        "retry-after": tuple(float(wait) for wait in waits),
        "retry-recipients-after": float(first.value),
    }
    for name, value in derived.items():
        row = TABLE.find(Scope.DOMAIN, name)
        if row is not None and name not in layer:
            lengths = value if isinstance(value, tuple) else (value,)
            text = ",".join(format_interval(length) for length in lengths)
            layer[name] = Setting(row, (WrittenLine(text, value, origin),))


def _home_pools(draft: Draft, problems: Problems) -> dict[str, OwnerDraft]:
    """The pool each virtual MTA inherits from: the one with <domain> blocks, else the first with settings."""
    homes: dict[str, OwnerDraft] = {}
    for pool in draft.pools.values():
        for member, origin in pool.members:
            earlier = homes.get(member)
            if earlier is None:
                homes[member] = pool
            elif earlier is not pool and pool.domains:
                if earlier.domains:
                    problems.error(
                        origin,
                        f"virtual-mta {member} is in two pools with <domain> blocks: "
                        f"{earlier.name} and {pool.name}",
                        "only one pool may give it settings for domains",
                    )
                homes[member] = pool
            elif not earlier.domains and not _has_settings(earlier) and _has_settings(pool):
                homes[member] = pool
    return homes


def _has_settings(pool: OwnerDraft) -> bool:
    return bool(pool.keys or pool.layer.keys() - {"virtual-mta"})


def _vmtas(
    draft: Draft, homes: Mapping[str, OwnerDraft], proxies: Mapping[str, Proxy], problems: Problems
) -> dict[str, VirtualMta]:
    top = draft.top.layer
    owners = {DEFAULT_VMTA: OwnerDraft(DEFAULT_VMTA), **draft.vmtas}
    found = {}
    for name, owner in owners.items():
        if name in draft.pools and owner.origin is not None:
            problems.error(
                owner.origin,
                f"virtual-mta {name} and virtual-mta-pool {name} can't share a name",
                f"the pool is in {draft.pools[name].origin}",
            )
        home = homes.get(name)
        layers = [top, home.layer, owner.layer] if home is not None else [top, owner.layer]
        shared = [_shared(layer, Scope.VIRTUAL_MTA) for layer in layers[:-1]]
        settings = _settings(Scope.VIRTUAL_MTA, *shared, owner.layer)
        sources = _egress_sources(reversed(layers), settings, proxies, problems)
        found[name] = VirtualMta(name, settings, sources, home.name if home is not None else "")
    return found


def _egress_sources(
    layers: Iterable[Layer], settings: Settings, proxies: Mapping[str, Proxy], problems: Problems
) -> tuple[EgressSource, ...]:
    """The source hosts of the nearest layer that has any; whatever the system chooses when none has."""
    names = settings.texts("host-name")
    main = names[0] if names else ""
    for layer in layers:
        found: dict[EgressSource, None] = {}
        for name in ("smtp-source-host", "smtp-source-ip"):
            setting = layer.get(name)
            for line in setting.lines if setting is not None else ():
                for source in _expanded(line, main, problems):
                    found[source] = None
        for source in _proxied(layer, int(settings.text("proxy-protocol")), proxies, problems):
            if any(not known.proxies for known in found):
                problems.error(
                    layer["use-proxy" if "use-proxy" in layer else "smtp-proxy-source-host"].lines[-1].origin,
                    "addresses of this machine and those of a proxy can't be mixed",
                    "leave smtp-source-host out, or give the proxy a virtual MTA of its own",
                )
                break
            found[source] = None
        if found:
            return tuple(found)
    return (EgressSource("", main),)


def _proxied(
    layer: Layer, version: int, proxies: Mapping[str, Proxy], problems: Problems
) -> list[EgressSource]:
    """The sources behind proxies that one layer has: known by their address at the proxy."""
    found = []
    setting = layer.get("smtp-proxy-source-host")
    for line in setting.lines if setting is not None else ():
        try:
            proxy = proxy_source(line.text, version)
        except ValueError as error:
            problems.error(line.origin, f"smtp-proxy-source-host: {error}")
            continue
        found.append(EgressSource(proxy.client_ip, proxy.host_name, (proxy,)))
    used = used_proxies(layer, proxies, problems)
    if used and found:
        problems.error(
            layer["use-proxy"].lines[-1].origin, "use-proxy and smtp-proxy-source-host exclude each other"
        )
    elif used:
        found.append(EgressSource(used[0].client_ip, used[0].host_name, used))
    return found


def _expanded(line: WrittenLine, main: str, problems: Problems) -> list[EgressSource]:
    """The addresses of one line: `IP`, `IP NAME`, or `CIDR NAME` (every host address but 127.0.0.1)."""
    words = split_words(line.text)
    if not words:
        return []
    host_name = words[1] if len(words) > 1 else main
    if len(words) > 2:
        problems.error(line.origin, f"too many words: {line.text!r}", "smtp-source-host ADDRESS NAME")
        return []
    try:
        if "/" not in words[0]:
            return [EgressSource(str(parse_address(words[0])), host_name)]
        networks = parse_network(words[0])
    except ValueError as error:
        problems.error(line.origin, str(error), "smtp-source-host ADDRESS NAME")
        return []
    if len(networks) > 1 or networks[0].num_addresses > MAX_RANGE:
        problems.error(line.origin, f"{words[0]} is more than {MAX_RANGE} addresses")
        return []
    addresses = (str(address) for address in networks[0].hosts())
    return [EgressSource(address, host_name) for address in addresses if address != "127.0.0.1"]


def _listeners(draft: Draft, problems: Problems) -> tuple[Listener, ...]:
    top = draft.top.layer
    base = _shared(top, Scope.LISTENER)
    found: dict[HostPort, Listener] = {}
    flat = top.get("smtp-listener")
    for line in flat.lines if flat is not None else ():
        words = split_words(line.text)
        address = _listening(words[0] if words else "", line.origin, problems)
        name = ""
        for word in words[1:]:
            if word.startswith("source="):
                name = word[7:]
            else:
                problems.error(
                    line.origin, f"{word!r} is not part of a listener", "smtp-listener IP:PORT source=NAME"
                )
        if address is not None:
            found[address] = Listener(*address, name, _settings(Scope.LISTENER, base), line.origin)
    for block in draft.of(Scope.LISTENER):
        address = _listening(block.argument, block.origin, problems)
        if address is not None:
            settings = _settings(Scope.LISTENER, base, block.layer)
            found[address] = Listener(*address, settings.text("source"), settings, block.origin)
    return (tuple(found.values()) or _old_listeners(top)) + _dummy(top)


def _dummy(top: Layer) -> tuple[Listener, ...]:
    """The port that drops what it gets, if there is to be one; always the last listener."""
    settings = _settings(Scope.GLOBAL, top)
    port = settings.integer("dummy-smtp-port")
    if not port:
        return ()
    host = settings.text("dummy-smtp-ip") or DEFAULT_LISTENER.host
    listening = _settings(Scope.LISTENER, _shared(top, Scope.LISTENER))
    return (Listener(host, port, "", listening, settings.origin("dummy-smtp-port"), is_dummy=True),)


def _old_listeners(top: Layer) -> tuple[Listener, ...]:
    """`smtp-ip` and `smtp-port`, older than smtp-listener; port 25 everywhere when neither is given."""
    settings = _settings(Scope.LISTENER, _shared(top, Scope.LISTENER))
    hosts = (
        [str(line.value) for line in top["smtp-ip"].lines] if "smtp-ip" in top else [DEFAULT_LISTENER.host]
    )
    ports = [line.value for line in top["smtp-port"].lines] if "smtp-port" in top else [DEFAULT_LISTENER.port]
    return tuple(Listener(host, port, "", settings) for host in hosts for port in ports)


def _listening(text: str, origin: Origin, problems: Problems) -> HostPort | None:
    """Where a listener listens: `0/0:25` and `0.0.0.0:25` are every address; port 25 when none is written."""
    try:
        if text.startswith(("0/0", "*")):
            text = "0.0.0.0" + text.removeprefix("0/0").removeprefix("*")
        if "/" in text:
            network, _, port = text.partition(":") if text.count(":") < 2 else text.rpartition(":")
            networks = parse_network(network)
            if networks[0].num_addresses != 1:
                raise ValueError(f"{text!r}: a listener has one address, or 0.0.0.0 for all of them")
            text = f"[{networks[0].network_address}]:{port or 25}"
        address = parse_host_port(text)
        if address.host != "localhost":
            parse_address(address.host)
    except ValueError as error:
        problems.error(origin, f"smtp-listener: {error}", "smtp-listener 127.0.0.1:2525")
        return None
    has_port = (text.startswith("[") and "]:" in text) or text.count(":") == 1
    return address if has_port else HostPort(address.host, DEFAULT_LISTENER.port)


def _spools(draft: Draft) -> tuple[SpoolBlock, ...]:
    top = draft.top.layer
    base = _shared(top, Scope.SPOOL)
    found: dict[str, Layer] = {}
    flat = top.get("spool")
    for line in flat.lines if flat is not None else ():
        if line.value:
            found[str(line.value[0])] = {}
    for block in draft.of(Scope.SPOOL):
        found[block.argument] = block.layer
    return tuple(SpoolBlock(Path(path), _settings(Scope.SPOOL, base, layer)) for path, layer in found.items())


def _files(draft: Draft, scope: Scope) -> tuple[AcctFile, ...]:
    base = _shared(draft.top.layer, scope)

    def acct_file(block: BlockDraft) -> AcctFile:
        return AcctFile(block.argument, _settings(scope, base, block.layer), block.origin)

    return tuple(acct_file(block) for block in draft.of(scope))


def _relay_domains(top: Layer) -> DomainTable[bool]:
    entries: list[tuple[DomainPattern, bool, bool]] = []
    relay = top.get("relay-domain")
    for line in relay.lines if relay is not None else ():
        if isinstance(line.value, DomainPattern):
            entries.append((line.value, False, True))
    names = top.get("host-name")
    for line in names.lines if names is not None else ():
        if line.value:
            entries.append((DomainPattern.parse(str(line.value)), False, True))
    return DomainTable(entries)


def _relay_addresses(top: Layer, problems: Problems) -> tuple[frozenset[str], tuple[Pattern, ...]]:
    addresses, regexes = set(), []
    setting = top.get("relay-address")
    for line in setting.lines if setting is not None else ():
        if not line.text.startswith("/"):
            addresses.add(str(line.value).lower())
            continue
        try:
            regexes.append(compile_pattern(read_regex(line.text)[0]))
        except ValueError as error:
            problems.error(line.origin, f"relay-address: {error}")
    return frozenset(addresses), tuple(regexes)
