"""The messages behind the golden files: fixed values and one fixed key, nothing drawn.

To keep the bytes independent of the zstd and libjpeg at hand, what they compress stands here
as it was compressed once.
"""

from typing import Final

import msgspec
import numpy as np
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from tests.golden.modular_messages import modular_messages, submodel_manifest

from driftwell.messages import (
    Ack,
    Delta,
    Event,
    Head,
    Inference,
    Limits,
    Link,
    Manifest,
    Message,
    ModuleUpdate,
    PackedImages,
    PackedSignature,
    Provenance,
    Refused,
    Resources,
    SampleBatch,
    State,
    StreamBatch,
    Telemetry,
    digest_bytes,
)
from driftwell.messages.arrays import pack_arrays
from driftwell.messages.names import EVERYONE
from driftwell.messages.samples import pack_columns
from driftwell.messages.signing import sign_manifest
from driftwell.messages.stream import pack_stream_columns

MODEL: Final = digest_bytes(b"model")
SOURCE: Final = digest_bytes(b"source")
RESULT: Final = digest_bytes(b"result")
MODULE: Final = digest_bytes(b"module")
SESSION: Final = "00c0ffee00c0ffee"
CLOUD_SESSION: Final = "feedfacefeedface"
CLOCK_NS: Final = 1_700_000_000_123_456_789
KEY: Final = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
PUBLIC_KEY: Final = KEY.public_key().public_bytes_raw()

PIXELS: Final = np.tile(np.arange(8, dtype=np.uint8).reshape(1, 1, 8, 1), (2, 8, 1, 3))
"""Two images of 8 x 8 pixels, three channels; each row runs 0, 1, ..., 7."""
PIXELS_COMPRESSED: Final = bytes.fromhex("28b52ffd6080007d0000200001000103006d2b0a008c078005")
PIXELS_JPEG: Final = bytes.fromhex(
    "ffd8ffe000104a46494600010100000100010000ffdb004300080606070605080707070909080a0c140d0c0b0b0c"
    "1912130f141d1a1f1e1d1a1c1c20242e2720222c231c1c2837292c30313434341f27393d38323c2e333432ffdb00"
    "43010909090c0b0c180d0d1832211c21323232323232323232323232323232323232323232323232323232323232"
    "3232323232323232323232323232323232323232ffc00011080008001003011100021101031101ffc40015000101"
    "00000000000000000000000000000007ffc4001510010100000000000000000000000000000002ffc40014010100"
    "000000000000000000000000000000ffc40014110100000000000000000000000000000000ffda000c0301000211"
    "0311003f008140100fffd9"
)
"""A sheet of 16 x 8 pixels; decoded, they are within 1 of `PIXELS`."""
MEAN: Final = (0.5, -0.25, 0.1)
VARIANCE: Final = (1.0, 0.0, 0.001)
SIGNATURE: Final = PackedSignature(
    mean=np.array(MEAN, dtype="<f4").tobytes(),
    variance=np.array(VARIANCE, dtype="<f4").tobytes(),
    images=192,
)
SYMBOLS: Final = np.array([1, -1, 127, -127, 0, 3], np.int8)
SYMBOLS_COMPRESSED: Final = bytes.fromhex("28b52ffd200631000001ff7f810003")


def _head(manifest: Manifest, *, seq: int, device: str = "cam-7") -> Head:
    encoded, signature = sign_manifest(manifest, KEY)
    return Head(
        device=device,
        session=CLOUD_SESSION,
        seq=seq,
        clock_ns=CLOCK_NS,
        model=MODEL,
        manifest=encoded,
        signature=signature,
        key=PUBLIC_KEY,
    )


ACK: Final = Ack(
    device="cam-7",
    session=CLOUD_SESSION,
    seq=3,
    clock_ns=CLOCK_NS,
    model=MODEL,
    of_session=SESSION,
    stored_seq=41,
    settled_seq=40,
    version=12,
    refused=(Refused(seq=17, code="bad-array"), Refused(seq=39, code="wrong-model")),
)
ACK_DOMAIN: Final = msgspec.structs.replace(
    ACK, seq=4, stored_seq=44, version=2, refused=(), drifts=5, domain=3
)
EVENT: Final = Event(
    device="cam-7",
    session=SESSION,
    seq=5,
    clock_ns=CLOCK_NS,
    model=MODEL,
    event="refused",
    version=13,
    code="bad-signature",
    detail="head was altered after signing",
)
EVENT_APPLIED: Final = msgspec.structs.replace(
    EVENT, seq=6, event="applied", code="", detail="", lag_s=1.5
)
EVENT_RECALLED: Final = msgspec.structs.replace(
    EVENT, seq=7, event="recalled", version=2, code="", detail="domain 3"
)
MANIFEST: Final = Manifest(
    group="plant-2",
    cohort="cam-7",
    model=MODEL,
    source=SOURCE,
    version=13,
    parent=SOURCE,
    result=RESULT,
    created_ns=CLOCK_NS,
    expires_ns=CLOCK_NS + 86_400 * 10**9,
    newest_sample_ns=CLOCK_NS - 2 * 10**9,
    provenance=Provenance(
        method="cema",
        config="0123456789abcdef",
        software="driftwell 0.1.0",
        trained_samples=4096,
        batches=(f"cam-7/{SESSION}/40", f"cam-7/{SESSION}/41"),
    ),
    delta=Delta(
        encoding="float16",
        entries=(0, 3),
        values=np.array([0.5, -0.25, 6.1035e-05, 65504.0], dtype="<f2").tobytes(),
    ),
)
HEAD: Final = _head(MANIFEST, seq=13)
MANIFEST_INT8: Final = msgspec.structs.replace(
    MANIFEST,
    version=14,
    delta=Delta(
        encoding="int8",
        entries=(0, 3),
        values=SYMBOLS_COMPRESSED,
        steps=np.array([0.25, 0.001], dtype="<f4").tobytes(),
    ),
)
HEAD_INT8: Final = _head(MANIFEST_INT8, seq=14)
MANIFEST_DOMAIN: Final = msgspec.structs.replace(
    MANIFEST, cohort="yard/3", version=2, signature=SIGNATURE
)
HEAD_DOMAIN: Final = _head(MANIFEST_DOMAIN, seq=15, device=EVERYONE)
COLUMNS: Final = pack_columns(
    np.array([100, 2**40], dtype=np.uint64),
    np.array([0.25, 1.5], dtype=np.float32),
    np.array([3, 999], dtype=np.uint16),
)
SAMPLES: Final = SampleBatch(
    device="cam-7",
    session=SESSION,
    seq=41,
    clock_ns=CLOCK_NS,
    model=MODEL,
    oldest_seq=39,
    cohort="cam-7",
    images=PackedImages(encoding="raw", shape=(2, 8, 8, 3), data=PIXELS.tobytes()),
    columns=COLUMNS,
)
SAMPLES_COMPRESSED: Final = msgspec.structs.replace(
    SAMPLES,
    seq=42,
    images=PackedImages(encoding="x-zstd", shape=(2, 8, 8, 3), data=PIXELS_COMPRESSED),
)
SAMPLES_JPEG: Final = msgspec.structs.replace(
    SAMPLES,
    seq=43,
    images=PackedImages(encoding="jpeg", shape=(2, 8, 8, 3), data=PIXELS_JPEG),
)
SAMPLES_DOMAIN: Final = msgspec.structs.replace(
    SAMPLES, seq=44, cohort="yard", drifts=5, domain=3, signature=SIGNATURE
)
STATE: Final = State(
    device="cam-7",
    session=SESSION,
    seq=1,
    clock_ns=CLOCK_NS,
    model=MODEL,
    status="ready",
    cohort="cam-7",
    version=12,
    result=RESULT,
    capabilities=("torch", "head"),
    limits=Limits(message_bytes=100_000, memory_bytes=2**31, cpu_count=4),
    software="driftwell 0.1.0",
)
STATE_LOST: Final = msgspec.structs.replace(
    STATE, status="lost", version=0, result=SOURCE, capabilities=(), limits=None, software=""
)
STREAM: Final = StreamBatch(
    device="cam-7",
    session=SESSION,
    seq=4,
    clock_ns=CLOCK_NS,
    model=MODEL,
    cohort="cam-7",
    version=12,
    images=PackedImages(encoding="raw", shape=(2, 8, 8, 3), data=PIXELS.tobytes()),
    columns=pack_stream_columns(
        np.array([100, 101], dtype=np.uint64),
        np.array([3, 999], dtype=np.uint16),
        np.array([0.25, 1.5], dtype=np.float32),
        np.array([0, 2], dtype=np.uint8),
        np.array([3, 7], dtype=np.uint16),
    ),
)
TELEMETRY: Final = Telemetry(
    device="cam-7",
    session=SESSION,
    seq=9,
    clock_ns=CLOCK_NS,
    model=MODEL,
    resources=Resources(
        cpu_percent=37.5,
        memory_used_bytes=2**30,
        memory_total_bytes=2**32,
        process_memory_bytes=2**28,
        disk_free_bytes=2**34,
        temperature_celsius=51.25,
        on_battery=False,
    ),
    inference=Inference(
        batches=64,
        latency_ms_p50=8.25,
        latency_ms_p99=21.5,
        entropy_mean_nats=0.5,
        entropy_max_nats=0.921,
        version=12,
    ),
    link=Link(bytes_up=123_456, bytes_down=7_890, connects=2),
    counters={"seen": 4096, "selected": 512, "dropped-spool-full": 0},
)
UPDATE: Final = ModuleUpdate(
    device="cam-7",
    session=SESSION,
    seq=2,
    clock_ns=CLOCK_NS,
    model=MODEL,
    module=MODULE,
    base_version=12,
    samples=256,
    importance=0.75,
    arrays=pack_arrays(
        {
            "weight": np.array([[1.5, -2.0], [0.0, 3.0e-5]], dtype=np.float32),
            "bias": np.array([0.5, -0.5], dtype=np.float16),
            "steps": np.array(7, dtype=np.int64),
            "mask": np.array([True, False]),
        }
    ),
)

SUBMODEL: Final = sign_manifest(submodel_manifest(model=MODEL, clock_ns=CLOCK_NS), KEY)

FIXED: Final[dict[str, Message]] = {
    "ack": ACK,
    "ack-domain": ACK_DOMAIN,
    "event": EVENT,
    "event-applied": EVENT_APPLIED,
    "event-recalled": EVENT_RECALLED,
    "head": HEAD,
    "head-domain": HEAD_DOMAIN,
    "head-int8": HEAD_INT8,
    "samples": SAMPLES,
    "samples-compressed": SAMPLES_COMPRESSED,
    "samples-domain": SAMPLES_DOMAIN,
    "samples-jpeg": SAMPLES_JPEG,
    "state": STATE,
    "state-lost": STATE_LOST,
    "stream": STREAM,
    "telemetry": TELEMETRY,
    "update": UPDATE,
    **modular_messages(
        state=STATE, telemetry=TELEMETRY, update=UPDATE, key=PUBLIC_KEY,
        manifest=SUBMODEL[0], signature=SUBMODEL[1], cloud_session=CLOUD_SESSION,
    ),
}  # fmt: skip
"""File name, without its ending, to message."""

DECODE_ONLY: Final[frozenset[str]] = frozenset({"state", "state-lost", "telemetry", "update"})
"""Files of an earlier minor version: they must be read for ever, but are no longer written."""
