"""Pure. What travels between edge and cloud; the specification is `messages/README.md`."""

from driftwell.messages.ack import Ack, Refused
from driftwell.messages.arrays import NamedArray
from driftwell.messages.blob import Blob, Content, Fetch, Want
from driftwell.messages.codec import MESSAGE_LIMIT, Message, decode, decode_on_topic, encode
from driftwell.messages.delta import AdaptableState, Delta, apply_delta, encode_delta
from driftwell.messages.digest import digest_arrays, digest_bytes
from driftwell.messages.envelope import SCHEMA, Envelope
from driftwell.messages.errors import DriftwellError, RefusalCode, WireError
from driftwell.messages.event import Event
from driftwell.messages.head import Head, Manifest, Provenance
from driftwell.messages.images import PackedImages, pack_images, unpack_images
from driftwell.messages.samples import SampleBatch
from driftwell.messages.signature import PackedSignature
from driftwell.messages.state import Limits, ModelLimits, State
from driftwell.messages.stream import StreamBatch
from driftwell.messages.submodel import ModuleRef, SubModel, SubModelManifest
from driftwell.messages.telemetry import Inference, Link, Modular, Resources, Telemetry
from driftwell.messages.topics import ROUTES, Kind
from driftwell.messages.update import ModuleUpdate

__all__ = [
    "MESSAGE_LIMIT",
    "ROUTES",
    "SCHEMA",
    "Ack",
    "AdaptableState",
    "Blob",
    "Content",
    "Delta",
    "DriftwellError",
    "Envelope",
    "Event",
    "Fetch",
    "Head",
    "Inference",
    "Kind",
    "Limits",
    "Link",
    "Manifest",
    "Message",
    "ModelLimits",
    "Modular",
    "ModuleRef",
    "ModuleUpdate",
    "NamedArray",
    "PackedImages",
    "PackedSignature",
    "Provenance",
    "RefusalCode",
    "Refused",
    "Resources",
    "SampleBatch",
    "State",
    "StreamBatch",
    "SubModel",
    "SubModelManifest",
    "Telemetry",
    "Want",
    "WireError",
    "apply_delta",
    "decode",
    "decode_on_topic",
    "digest_arrays",
    "digest_bytes",
    "encode",
    "encode_delta",
    "pack_images",
    "unpack_images",
]
