"""Which key signs and how, as directives and the message's own headers say: checked by dkimpy."""

from __future__ import annotations

from pathlib import Path

import dkim
import pytest

from mta.clock import SystemClock
from mta.message.domainkey import PrivateKey, generate_private_key, private_pem, txt_record
from mta.service import worker
from mta.sink.counters import Delivery
from tests.support.steering import by_vmta
from tests.support.workshop import Workshop

MESSAGE = "From: <a@example.org>\nSubject: x\nDate: Sat, 21 Nov 2026 12:00:00 +0000\n{}\nhello\nworld\n"


class Keys:
    """Key files, and the name server that publishes them."""

    def __init__(self, directory: Path, *, bits: int = 1024, **kinds: str) -> None:
        self.directory = directory
        self.private: dict[str, PrivateKey] = {}
        for selector, kind in kinds.items():
            key = self.private[selector] = generate_private_key(kind, bits)
            path = directory / f"{selector}.pem"
            path.write_bytes(private_pem(key))
            path.chmod(0o600)

    def lines(self, *selectors: str, domain: str = "example.org") -> str:
        """`domain-key` lines for these."""
        return "".join(f"domain-key {name},{domain},{self.directory}/{name}.pem\n" for name in selectors)

    def ask(self, name: bytes, timeout: int = 5) -> bytes:
        return "".join(txt_record(self.private[name.decode().split(".")[0]])).encode()

    def signatures(self, delivery: Delivery) -> list[dict[str, str]]:
        """The tags of every signature, each of them verified."""
        data = delivery.data
        found = []
        for number in range(data.count(b"DKIM-Signature:")):
            checked = dkim.DKIM(data)
            assert checked.verify(idx=number, dnsfunc=self.ask)
            tags = checked.signature_fields
            found.append({name.decode(): value.decode() for name, value in tags.items()})
        return found


@pytest.fixture
def keys(tmp_path: Path) -> Keys:
    return Keys(tmp_path, one="rsa", two="ed25519", three="rsa")


async def delivered(shop: Workshop, header: str = "") -> Delivery:
    await shop.hand_in(MESSAGE.format(header))
    (delivery,) = await shop.until_delivered()
    return delivery


@pytest.mark.directive("domain dkim-algorithm")
@pytest.mark.directive("domain dkim-sign")
@pytest.mark.directive("virtual-mta domain-key")
@pytest.mark.parametrize(
    ("line", "kinds"),
    [
        ("", ["rsa-sha256", "ed25519-sha256"]),
        ("dkim-algorithm rsa-sha256", ["rsa-sha256"]),
        ("dkim-algorithm rsa-sha1", ["rsa-sha256"]),
        ("dkim-algorithm ed25519-sha256", ["ed25519-sha256"]),
    ],
)
async def test_the_algorithm_decides_which_of_two_keys_signs(
    tmp_path: Path, keys: Keys, line: str, kinds: list[str]
) -> None:
    extra = by_vmta(keys.lines("one", "two"))
    async with Workshop(tmp_path, within=f"dkim-sign yes\n{line}", extra=extra) as shop:
        tags = keys.signatures(await delivered(shop))

    assert [found["a"] for found in tags] == kinds


@pytest.mark.directive("domain second-dkim-algorithm")
@pytest.mark.directive("domain second-dkim-sign")
@pytest.mark.directive("domain second-dkim-add-body-limit")
@pytest.mark.directive("domain dkim-add-body-limit")
@pytest.mark.directive("virtual-mta-pool domain-key")
async def test_the_second_signature_takes_the_other_key_and_limits_the_body(
    tmp_path: Path, keys: Keys
) -> None:
    within = """dkim-sign yes
dkim-algorithm rsa-sha256
dkim-add-body-limit yes
second-dkim-sign yes
second-dkim-algorithm ed25519-sha256
second-dkim-add-body-limit no"""
    extra = by_vmta(pool=keys.lines("one", "two"))
    async with Workshop(tmp_path, within=within, extra=extra) as shop:
        first, second = keys.signatures(await delivered(shop))

    assert (first["a"], first["l"]) == ("rsa-sha256", str(len("hello\r\nworld\r\n")))
    assert second["a"] == "ed25519-sha256"
    assert "l" not in second


ASKING = "<source 127.0.0.1>\nprocess-x-dkim-options yes\n{}\n</source>\n"


@pytest.mark.directive("source process-x-dkim-options")
async def test_a_message_chooses_its_key_and_its_canonical_form(tmp_path: Path, keys: Keys) -> None:
    extra = ASKING.format("") + keys.lines("one", "two", "three")
    async with Workshop(tmp_path, within="dkim-sign if-x-dkim-options-present", extra=extra) as shop:
        delivery = await delivered(shop, "X-DKIM-Options: s=three; c=simple/relaxed\n")
        (tags,) = keys.signatures(delivery)
        assert (tags["s"], tags["c"]) == ("three", "simple/relaxed")
        assert b"x-dkim-options" not in delivery.data.lower()

        shop.deliveries.clear()
        assert keys.signatures(await delivered(shop)) == []


@pytest.mark.directive("source retain-x-dkim-options")
async def test_a_named_list_has_the_key_and_the_header_may_stay(tmp_path: Path, keys: Keys) -> None:
    extra = f"""
{ASKING.format("retain-x-dkim-options yes")}
{keys.lines("one")}
<domain-key-list others>
{keys.lines("three", domain="example.net")}
</domain-key-list>"""
    async with Workshop(tmp_path, within="dkim-sign yes", extra=extra) as shop:
        delivery = await delivered(shop, "X-DKIM-Options: d=example.net; key-list=others\n")
        (tags,) = keys.signatures(delivery)

    assert (tags["s"], tags["d"]) == ("three", "example.net")
    assert b"x-dkim-options" in delivery.data.lower()


@pytest.mark.directive("source process-x-dkim-key")
@pytest.mark.directive("source retain-x-dkim-key")
@pytest.mark.parametrize("retained", ["no", "yes"])
async def test_a_message_brings_its_own_key(tmp_path: Path, keys: Keys, retained: str) -> None:
    own = keys.private["own"] = generate_private_key("rsa", 1024)
    pem = private_pem(own).decode().strip().splitlines()
    extra = ASKING.format(f"process-x-dkim-key yes\nretain-x-dkim-key {retained}") + keys.lines("one")
    header = f"X-DKIM-Options: s=own; d=elsewhere.example\nX-DKIM-Key: {pem[1]}\n" + "".join(
        f" {line}\n" for line in pem[2:-1]
    )
    async with Workshop(tmp_path, within="dkim-sign yes", extra=extra) as shop:
        delivery = await delivered(shop, header)
        (tags,) = keys.signatures(delivery)

    assert (tags["s"], tags["d"]) == ("own", "elsewhere.example")
    assert (b"X-DKIM-Key" in delivery.data) is (retained == "yes")


FIRST = """dkim-sign yes
dkim-headers X-Campaign
dkim-headers-canon simple
dkim-body-canon simple
dkim-disallow-adding-headers X-Other
dkim-identity jo@example.org
dkim-add-timestamp yes
dkim-expire-after 1d"""
SECOND = """second-dkim-sign yes
second-dkim-headers X-Sent
second-dkim-headers-canon relaxed
second-dkim-body-canon relaxed
second-dkim-disallow-adding-headers X-More
second-dkim-identity nobody.example
second-dkim-identity-fallback al@example.org
second-dkim-add-timestamp no
second-dkim-expire-after never
second-dkim-query-method dns/txt"""


@pytest.mark.directive("domain dkim-headers", "domain second-dkim-headers")
@pytest.mark.directive("domain dkim-headers-canon", "domain second-dkim-headers-canon")
@pytest.mark.directive("domain dkim-body-canon", "domain second-dkim-body-canon")
@pytest.mark.directive("domain dkim-disallow-adding-headers", "domain second-dkim-disallow-adding-headers")
@pytest.mark.directive("domain dkim-identity", "domain second-dkim-identity")
@pytest.mark.directive("domain second-dkim-identity-fallback")
@pytest.mark.directive("domain dkim-add-timestamp", "domain second-dkim-add-timestamp")
@pytest.mark.directive("domain dkim-expire-after", "domain second-dkim-expire-after")
@pytest.mark.directive("domain second-dkim-query-method")
async def test_each_signature_has_the_tags_of_its_own_settings(tmp_path: Path, keys: Keys) -> None:
    within, today = f"{FIRST}\n{SECOND}", SystemClock().wall() - 60
    async with Workshop(tmp_path, within=within, extra=keys.lines("one"), start=today) as shop:
        first, second = keys.signatures(await delivered(shop, "X-Campaign: may\nX-Sent: yes\n"))

    names = [set(tags["h"].replace(" ", "").lower().split(":")) for tags in (first, second)]
    assert {"x-campaign", "x-other"} <= names[0]
    assert {"x-sent", "x-more"} <= names[1]
    assert not {"x-sent", "x-more"} & names[0]
    assert (first["c"], second["c"]) == ("simple/simple", "relaxed/relaxed")
    assert (first["i"], second["i"]) == ("jo@example.org", "al@example.org")
    assert int(first["x"]) - int(first["t"]) == 86400
    assert not {"x", "t"} & set(second)
    assert (first.get("q"), second["q"]) == (None, "dns/txt")


@pytest.mark.directive("domain dkim-identity-fallback")
@pytest.mark.directive("domain dkim-query-method")
async def test_another_identity_signs_where_there_is_no_key_for_the_first(tmp_path: Path, keys: Keys) -> None:
    within = "dkim-sign yes\ndkim-query-method dns/txt\ndkim-identity nobody.example\n"
    within += "dkim-identity-fallback example.org"
    async with Workshop(tmp_path, within=within, extra=keys.lines("one")) as shop:
        (tags,) = keys.signatures(await delivered(shop))

    assert (tags["d"], tags["q"]) == ("example.org", "dns/txt")


@pytest.mark.parametrize("spare", [0, 1])
async def test_slow_signatures_are_made_on_the_loop_or_in_a_process_and_mail_flows_either_way(
    tmp_path: Path, spare: int
) -> None:
    keys = Keys(tmp_path, bits=2048, slow="rsa")
    async with Workshop(tmp_path, within="dkim-sign yes", extra=keys.lines("slow")) as shop:
        signer = shop.worker.outbound.signer
        signer.spare = spare
        for number in range(20):
            await shop.hand_in(MESSAGE.format("").replace("hello", f"hello {number}"))
        found = [keys.signatures(delivery) for delivery in await shop.until_delivered(20)]

        assert [len(signatures) for signatures in found] == [1] * 20
        assert len({signatures[0]["b"] for signatures in found}) == 20
        assert len(signer.processes) == spare
        assert signer.stats().waiting == 0


@pytest.mark.parametrize(("cpus", "spare"), [("0", 0), ("0-1", 1), ("0-3", 3)])
async def test_a_worker_has_the_processors_of_its_block_but_one_for_signing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cpus: str, spare: int
) -> None:
    monkeypatch.setattr(worker, "processors_available", lambda: 4)
    extra = f"<worker 0>\ncpus {cpus}\n</worker>\n"

    async with Workshop(tmp_path, extra=extra) as shop:
        assert shop.worker.outbound.signer.spare == spare
        shop.worker.reload(shop.worker.snapshot)
        assert shop.worker.outbound.signer.spare == spare
