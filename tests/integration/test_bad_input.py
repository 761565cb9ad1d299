"""Whole daemons and a hostile peer: each bad message is counted with its code, and all goes on."""

from pathlib import Path

import msgspec
import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from tests import tiny
from tests.brokers import eventually
from tests.daemons import WITHIN_S, Tap, open_site

from driftwell.messages.codec import encode
from driftwell.messages.delta import encode_delta
from driftwell.messages.head import Head, Manifest
from driftwell.messages.samples import SampleBatch, pack_columns
from driftwell.messages.topics import Kind
from driftwell.models.bundle import Bundle

OTHER_KEY = Ed25519PrivateKey.from_private_bytes(bytes(32))


def batch_of(model: str, *, seq: int = 1, images: int = 32) -> SampleBatch:
    return tiny.make_batch(tiny.make_images(images, seed=seq), model=model, device="cam-9", seq=seq)


def as_map(batch: SampleBatch) -> dict[str, object]:
    fields: dict[str, object] = msgspec.msgpack.decode(encode(batch))
    return fields


def bad_samples(model: str) -> dict[str, tuple[str, bytes]]:
    """By what is wrong: the code, and the message; all claim to be seq 1 of cam-9."""
    good = batch_of(model)
    nan = pack_columns(np.arange(32, dtype=np.uint64), np.full(32, np.nan, np.float32),
                       np.zeros(32, np.uint16))  # fmt: skip
    colour = tiny.make_batch(np.zeros((4, 8, 8, 3), np.uint8), model=model, device="cam-9")
    return {
        "schema": ("unknown-schema", msgspec.msgpack.encode({**as_map(good), "schema": 2})),
        "nan": ("not-finite", encode(msgspec.structs.replace(good, columns=nan))),
        "shape": ("bad-array", encode(colour)),
        "limit": ("too-large", encode(batch_of(model, images=2000), limit_bytes=10**6)),
        "model": ("wrong-model", encode(batch_of("f" * 64))),
    }


@pytest.mark.parametrize("what", ["schema", "nan", "shape", "limit", "model"])
async def test_a_refused_batch_is_told_with_its_code(tmp_path: Path, what: str) -> None:
    """The cloud counts and acks it under its code; the next good batch is trained."""
    async with open_site(tmp_path) as site:
        consumer = await site.start_cloud()
        code, payload = bad_samples(site.edge.digest)[what]

        await site.say(Kind.SAMPLES, payload)
        await eventually(lambda: len(site.acks) > 0, WITHIN_S)

        assert consumer.counters[f"refused:{code}"] == 1
        assert [(one.seq, one.code) for one in site.acks[0].refused] == [(1, code)]
        assert (site.acks[0].stored_seq, site.acks[0].settled_seq) == (1, 1)

        await site.say(Kind.SAMPLES, encode(batch_of(site.edge.digest, seq=2)))
        await eventually(lambda: len(site.heads) > 0, WITHIN_S)
        assert consumer.ledger.books()["cam-9"]["trained"] == 32


async def test_what_is_no_message_is_counted(tmp_path: Path) -> None:
    """Garbage, a cut message, a wrong type and another's name: counted, not answered."""
    async with open_site(tmp_path) as site:
        consumer = await site.start_cloud()
        good = batch_of(site.edge.digest)
        foreign = msgspec.structs.replace(good, device="cam-8")

        await site.say(Kind.SAMPLES, b"\x00garbage")
        await site.say(Kind.SAMPLES, b"")
        await site.say(Kind.SAMPLES, encode(good)[:-3])
        await site.say(Kind.SAMPLES, encode(foreign))
        await site.say(Kind.STATE, encode(good))
        await site.say(Kind.SAMPLES, encode(good))
        await eventually(lambda: len(site.heads) > 0, WITHIN_S)

        refused = {n: c for n, c in consumer.counters.items() if n.startswith("refused:")}
        assert refused == {
            "refused:malformed": 3, "refused:wrong-sender": 1, "refused:wrong-type": 1,
        }  # fmt: skip
        assert consumer.ledger.books() == {"cam-9": {"stored": 32, "trained": 32, "pending": 0}}
        assert all(ack.refused == () for ack in site.acks)


async def test_the_edge_books_what_was_rejected(tmp_path: Path) -> None:
    """A device with another model has all its samples rejected; the next device learns."""
    async with open_site(tmp_path) as site:
        consumer = await site.start_cloud()
        tiny.write_stream(tmp_path / "stream.npz", 64)
        (tmp_path / "other").mkdir()
        other = tiny.make_bundle(tmp_path / "other", "edge", seed=5)

        await site.start_edge(other, None)
        summary = await site.running
        assert summary.finished
        assert summary.drained
        assert summary.books["selected"] == summary.books["rejected:wrong-model"] == 64
        assert summary.books["spooled"] == 0
        assert consumer.counters["refused:wrong-model"] == 2

        key = consumer.public_key.hex()
        await site.start_edge(site.edge, None, device="cam-2", pace="lockstep", trust=key)
        summary = await site.running
        assert summary.drained
        assert summary.counters["versions_applied"] == 1  # between the only two batches
        assert site.devices[-1].node.incumbent.version == 2
        assert consumer.ledger.books()["cam-2"]["trained"] == summary.books["acknowledged"] == 64


def altered_head(manifest: Manifest) -> Head:
    head = tiny.make_head(manifest)
    content = bytearray(head.manifest)
    content[len(content) // 2] ^= 1
    return msgspec.structs.replace(head, manifest=bytes(content))


def bad_heads(edge: Bundle) -> dict[str, bytes]:
    """By refusal code: a head for cam-1 that must not be applied."""
    good = tiny.make_manifest(edge, version=3)
    other = encode_delta(edge.source, tiny.moved(edge.source, 0.25))
    replace = msgspec.structs.replace
    heads = {
        "wrong-model": tiny.make_head(replace(good, model="f" * 64)),
        "wrong-source": tiny.make_head(replace(good, source="f" * 64)),
        "wrong-cohort": tiny.make_head(replace(good, cohort="cam-2")),
        "expired": tiny.make_head(replace(good, expires_ns=tiny.NOW_NS)),
        "wrong-result": tiny.make_head(replace(good, delta=other)),
        "untrusted-key": tiny.make_head(good, key=OTHER_KEY),
        "bad-signature": altered_head(good),
        "bad-array": tiny.make_head(replace(good, delta=replace(good.delta, values=b"12"))),
    }
    encoded = {code: encode(head) for code, head in heads.items()}
    encoded["malformed"] = encoded["wrong-model"][:-5]
    encoded["wrong-sender"] = encode(tiny.make_head(good, device="cam-2"))
    encoded["wrong-type"] = encode(tiny.make_ack(1))
    encoded["too-large"] = bytes(100_001)
    return encoded


async def test_a_bad_head_changes_nothing(tmp_path: Path) -> None:
    """Each is refused with its code while the source state answers; then a good one applies."""
    async with open_site(tmp_path) as site:
        tap = Tap()
        device = await site.start_edge(site.edge, tap)
        heads = bad_heads(site.edge)
        for payload in heads.values():
            await site.say(Kind.HEAD, payload, "cam-1")
        await eventually(lambda: device.counters["versions_refused"] == len(heads), WITHIN_S)

        refused = {n: c for n, c in device.counters.items() if n.startswith("refused:")}
        assert refused == {f"refused:{code}": 1 for code in heads}
        tap.give(32)
        await eventually(lambda: device.timing.batches == 1, WITHIN_S)
        assert device.node.incumbent.version == 0
        assert device.counters["versions_applied"] == 0

        await site.say(
            Kind.HEAD, encode(tiny.make_head(tiny.make_manifest(site.edge, version=3))), "cam-1"
        )
        await eventually(lambda: device.node.incumbent.version == 3, WITHIN_S)
        tap.give(32)
        await eventually(lambda: device.counters["versions_applied"] == 1, WITHIN_S)


async def test_a_bad_ack_deletes_nothing(tmp_path: Path) -> None:
    """Acks of another session or cut short leave the spool; a good one with a code empties it."""
    async with open_site(tmp_path) as site:
        tap = Tap()
        device = await site.start_edge(site.edge, tap)
        tap.give(32)
        await eventually(lambda: device.outbox.last_seq == 1, WITHIN_S)
        good = tiny.make_ack(1, model=site.edge.digest)
        foreign = msgspec.structs.replace(good, of_session="9" * 16)

        await site.say(Kind.ACK, encode(good)[:-1], "cam-1")
        await site.say(Kind.ACK, encode(foreign), "cam-1")
        await site.say(Kind.ACK, b"garbage", "cam-1")
        await eventually(lambda: device.counters["refused:malformed"] == 2, WITHIN_S)
        assert device.spool.books()["spooled"] == 32

        await site.say(Kind.ACK, encode(good), "cam-1")
        await eventually(lambda: device.spool.books()["spooled"] == 0, WITHIN_S)
        assert device.spool.books()["acknowledged"] == 32
