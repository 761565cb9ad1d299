"""Hypothesis strategies for everything that travels: arrays, images, states, messages.

What they draw is valid, and small on purpose: an example should fit on a screen. Bounds are
those of the wire, so a strategy that draws something the codec refuses is a finding.
"""

from collections.abc import Callable
from typing import Any, Final

import msgspec
import numpy as np
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst
from hypothesis.strategies import DrawFn, SearchStrategy
from tests.array_strategies import (
    deltas,
    float32_arrays,
    packed_images,
)
from tests.modular_strategies import (
    blobs,
    fetches,
    model_limits,
    modular_readings,
    module_updates,
    submodels,
)

from driftwell.messages import (
    Ack,
    Event,
    Head,
    Inference,
    Kind,
    Limits,
    Link,
    Manifest,
    Message,
    PackedSignature,
    Provenance,
    RefusalCode,
    Refused,
    Resources,
    SampleBatch,
    State,
    StreamBatch,
    Telemetry,
)
from driftwell.messages.envelope import MAX_COUNT
from driftwell.messages.names import MAX_DOMAIN, domain_name
from driftwell.messages.samples import pack_columns
from driftwell.messages.signature import Signature, make_signature, pack_signature
from driftwell.messages.signing import sign_manifest
from driftwell.messages.stream import pack_stream_columns

HEX: Final = "0123456789abcdef"

counts: Final = st.integers(0, MAX_COUNT)
names: Final = st.from_regex(r"[a-z0-9][a-z0-9-]{0,47}", fullmatch=True)
domains: Final = st.integers(0, MAX_DOMAIN)
cohort_names: Final = st.builds(domain_name, names, domains)
unset: Final = st.just(msgspec.UNSET)
digests: Final = st.text(HEX, min_size=64, max_size=64)
sessions: Final = st.text(HEX, min_size=16, max_size=16)
percents: Final = st.floats(0, 100)
non_negatives: Final = st.floats(0, allow_nan=False)
finites: Final = st.floats(allow_nan=False, allow_infinity=False)
keys: Final = st.binary(min_size=32, max_size=32).map(Ed25519PrivateKey.from_private_bytes)


@st.composite
def signatures(draw: DrawFn) -> Signature:
    """Signatures of a few channels whose moments are float32, as a network measures them."""
    channels = draw(st.integers(1, 4))
    return make_signature(
        draw(float32_arrays((channels,))),
        draw(float32_arrays((channels,), st.floats(0, allow_infinity=False, width=32))),
        images=draw(st.integers(1, MAX_COUNT)),
    )


def packed_signatures() -> SearchStrategy[PackedSignature]:
    """Signatures in their wire form."""
    return signatures().map(pack_signature)


def provenances() -> SearchStrategy[Provenance]:
    """Where a version comes from."""
    return st.builds(
        Provenance,
        method=st.text(max_size=48),
        config=st.text(HEX, min_size=16, max_size=16),
        software=st.text(max_size=48),
        trained_samples=counts,
        batches=st.lists(st.text(max_size=96), max_size=3).map(tuple),
    )


def manifests() -> SearchStrategy[Manifest]:
    """Manifests of versions, rollbacks among them, of cohorts and of their domains."""
    return st.builds(
        Manifest,
        group=names,
        cohort=cohort_names,
        model=digests,
        source=digests,
        version=st.integers(1, MAX_COUNT),
        parent=digests,
        result=digests,
        created_ns=counts,
        expires_ns=counts,
        newest_sample_ns=counts,
        rollback=st.booleans(),
        signature=unset | packed_signatures(),
        provenance=provenances(),
        delta=deltas(),
    )


def envelope_fields(devices: SearchStrategy[str] = names) -> dict[str, SearchStrategy[Any]]:
    """The fields every message begins with, for `st.builds`."""
    return {
        "device": devices,
        "session": sessions,
        "seq": counts,
        "clock_ns": counts,
        "model": digests,
    }


def acks() -> SearchStrategy[Ack]:
    """Acknowledgements."""
    refused = st.builds(Refused, seq=counts, code=st.sampled_from(RefusalCode).map(str))
    return st.builds(
        Ack,
        **envelope_fields(),
        of_session=sessions,
        stored_seq=counts,
        settled_seq=counts,
        version=counts,
        drifts=unset | counts,
        domain=unset | domains,
        refused=st.lists(refused, max_size=3).map(tuple),
    )


def events() -> SearchStrategy[Event]:
    """Events of every sort."""
    return st.builds(
        Event,
        **envelope_fields(),
        event=st.sampled_from(["applied", "refused", "reverted", "drift", "recalled", "budget"]),
        version=counts,
        code=st.just("") | st.sampled_from(RefusalCode).map(str),
        detail=st.text(max_size=500),
        lag_s=st.none() | finites,
    )


@st.composite
def heads(draw: DrawFn) -> Head:
    """Correctly signed heads, of one device or of a cohort."""
    key = draw(keys)
    manifest, signature = sign_manifest(draw(manifests()), key)
    fields = draw(st.fixed_dictionaries(envelope_fields(st.just("_") | names)))
    public = key.public_key().public_bytes_raw()
    return Head(**fields, manifest=manifest, signature=signature, key=public)


@st.composite
def sample_batches(draw: DrawFn) -> SampleBatch:
    """Sample batches whose columns fit their images, of devices that know of domains or not."""
    packed = draw(packed_images())
    count = packed.shape[0]
    columns = pack_columns(
        draw(npst.arrays(np.uint64, count)),
        draw(float32_arrays((count,), st.floats(0, 10, width=32))),
        draw(npst.arrays(np.uint16, count)),
    )
    own = {"oldest_seq": counts, "cohort": names}
    placing = {
        "drifts": unset | counts,
        "domain": unset | domains,
        "signature": unset | packed_signatures(),
    }
    fields = draw(st.fixed_dictionaries(envelope_fields() | own | placing))
    return SampleBatch(**fields, images=packed, columns=columns)


@st.composite
def stream_batches(draw: DrawFn) -> StreamBatch:
    """Stream batches whose columns fit their images, with labels or without."""
    packed = draw(packed_images())
    count = packed.shape[0]
    columns = pack_stream_columns(
        draw(npst.arrays(np.uint64, count)),
        draw(npst.arrays(np.uint16, count)),
        draw(float32_arrays((count,), st.floats(0, 10, width=32))),
        draw(npst.arrays(np.uint8, count)),
        draw(st.none() | npst.arrays(np.uint16, count)),
    )
    own = {"version": counts, "cohort": names}
    fields = draw(st.fixed_dictionaries(envelope_fields() | own))
    return StreamBatch(**fields, images=packed, columns=columns)


def device_states() -> SearchStrategy[State]:
    """Births, orderly ends and wills."""
    limits = st.builds(Limits, message_bytes=counts, memory_bytes=counts, cpu_count=counts)
    return st.builds(
        State,
        **envelope_fields(),
        status=st.sampled_from(["ready", "stopped", "lost"]),
        cohort=names,
        version=counts,
        result=digests,
        last_seq=counts,
        capabilities=st.lists(st.text(max_size=48), max_size=3).map(tuple),
        limits=st.none() | limits,
        software=st.text(max_size=48),
        model_limits=unset | model_limits(),
    )


def telemetries() -> SearchStrategy[Telemetry]:
    """Readings, some of machines that do not let themselves be read."""
    resources = st.builds(
        Resources,
        cpu_percent=percents,
        memory_used_bytes=counts,
        memory_total_bytes=counts,
        process_memory_bytes=counts,
        disk_free_bytes=counts,
        temperature_celsius=st.none() | finites,
        battery_percent=st.none() | percents,
        on_battery=st.none() | st.booleans(),
    )
    inference = st.builds(
        Inference,
        batches=counts,
        latency_ms_p50=st.none() | non_negatives,
        latency_ms_p99=st.none() | non_negatives,
        entropy_mean_nats=st.none() | non_negatives,
        entropy_max_nats=non_negatives,
        version=counts,
    )
    link = st.builds(
        Link,
        bytes_up=counts,
        bytes_down=counts,
        connects=counts,
        publish_ms_p50=st.none() | non_negatives,
    )
    counters = st.dictionaries(st.text(max_size=64), counts, max_size=3)
    return st.builds(
        Telemetry,
        **envelope_fields(),
        resources=resources,
        inference=inference,
        link=link,
        counters=counters,
        modular=unset | modular_readings(),
    )


MESSAGES: Final[dict[Kind, Callable[[], SearchStrategy[Any]]]] = {
    Kind.ACK: acks,
    Kind.EVENT: events,
    Kind.HEAD: heads,
    Kind.SAMPLES: sample_batches,
    Kind.STATE: device_states,
    Kind.STREAM: stream_batches,
    Kind.TELEMETRY: telemetries,
    Kind.UPDATE: lambda: module_updates(envelope_fields()),
    Kind.BLOB: lambda: blobs(envelope_fields()),
    Kind.FETCH: lambda: fetches(envelope_fields()),
    Kind.SUBMODEL: lambda: submodels(envelope_fields()),
}
"""The strategy of every message type, by the kind of topic it travels on."""


def messages() -> SearchStrategy[Message]:
    """Any message."""
    return st.one_of([strategy() for strategy in MESSAGES.values()])
