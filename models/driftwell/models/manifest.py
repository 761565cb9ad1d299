"""Pure. What a model bundle says about itself: `manifest.json`, read strictly."""

from typing import Annotated, Final, Literal

import msgspec

from driftwell.messages.digest import digest_bytes
from driftwell.messages.envelope import Digest
from driftwell.messages.errors import BundleError
from driftwell.models.modular.spec import ModularSpec
from driftwell.models.preprocessing import Preprocessing

MANIFEST: Final = "manifest.json"
BUNDLE_SCHEMA: Final = 1

Size = Annotated[int, msgspec.Meta(ge=1, le=65_535)]


class InputSpec(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One sample: height, width, channels, as uint8."""

    shape: tuple[Size, Size, Size]
    dtype: Literal["uint8"] = "uint8"


class AdaptableArray(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One array that may change: its name in the network's state, and its shape."""

    name: Annotated[str, msgspec.Meta(min_length=1, max_length=200)]
    shape: tuple[Size, ...]


class BundleManifest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Everything about a bundle but its weights."""

    schema: int = BUNDLE_SCHEMA
    model: Annotated[str, msgspec.Meta(min_length=1, max_length=200)]
    """A built-in name such as `cifar-resnet20`, or `package.module:factory`."""
    input: InputSpec
    classes: Annotated[tuple[str, ...], msgspec.Meta(min_length=2, max_length=65_535)]
    preprocessing: Preprocessing
    preprocessing_digest: Digest
    adaptable: tuple[AdaptableArray, ...]
    """In the network's order; deltas refer to arrays by their position here."""
    parameters: Annotated[int, msgspec.Meta(ge=1)]
    weights_digest: Digest
    source_digest: Digest
    """Digest of the adaptable arrays as they are in the weights."""
    selftest_digest: Digest
    """Digest of the self-test's images and expected logits."""
    modular: ModularSpec | None = None
    """What it is made of, if it is made of modules; else nothing is said of it in the file."""


def encode_manifest(manifest: BundleManifest) -> bytes:
    """The file's bytes; their digest names the bundle on the wire."""
    content = msgspec.to_builtins(manifest)
    if manifest.modular is None:  # a manifest of before there were modules has the same bytes
        del content["modular"]
    return msgspec.json.format(msgspec.json.encode(content), indent=2) + b"\n"


def decode_manifest(content: bytes, *, where: str) -> BundleManifest:
    """Read a manifest.

    Raises:
        BundleError: if it is not one, of another schema, or contradicts itself.
    """
    try:
        manifest = msgspec.json.decode(content, type=BundleManifest)
    except msgspec.MsgspecError as error:
        raise BundleError(f"{where} is not a bundle manifest: {error}") from error
    if manifest.schema != BUNDLE_SCHEMA:
        raise BundleError(f"{where} has bundle schema {manifest.schema}, known is {BUNDLE_SCHEMA}")
    if manifest.preprocessing.digest != manifest.preprocessing_digest:
        raise BundleError(f"{where}: preprocessing was edited; its digest does not match")
    channels = manifest.input.shape[2]
    if {len(manifest.preprocessing.mean), len(manifest.preprocessing.std)} != {channels}:
        raise BundleError(f"{where}: preprocessing is not for {channels} channels")
    return manifest


def bundle_digest(content: bytes) -> str:
    """The bundle's name on the wire: the digest of its manifest's bytes."""
    return digest_bytes(content)
