"""Hypothesis strategies for what travels of modular models; `strategies.py` takes them in."""

from typing import Any, Final

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy
from tests.array_strategies import deltas, named_arrays

from driftwell.messages import (
    Blob,
    Fetch,
    ModelLimits,
    Modular,
    ModuleRef,
    ModuleUpdate,
    SubModel,
    SubModelManifest,
    Want,
)
from driftwell.messages.envelope import MAX_COUNT
from driftwell.messages.signing import sign_manifest

Fields = dict[str, SearchStrategy[Any]]
"""What every message begins with."""

counts: Final = st.integers(0, MAX_COUNT)
numbers: Final = st.integers(0, 255)
names: Final = st.from_regex(r"[a-z0-9][a-z0-9-]{0,47}", fullmatch=True)
digests: Final = st.text("0123456789abcdef", min_size=64, max_size=64)
unset: Final = st.just(msgspec.UNSET)
amounts: Final = st.dictionaries(st.text(max_size=32), st.floats(0, allow_nan=False), max_size=3)
keys: Final = st.binary(min_size=32, max_size=32).map(Ed25519PrivateKey.from_private_bytes)


def model_limits() -> SearchStrategy[ModelLimits]:
    """Limits of a model, some of them absent."""
    return st.builds(
        ModelLimits,
        memory_bytes=unset | st.integers(1, MAX_COUNT),
        latency_ms=unset | st.floats(0, exclude_min=True, allow_nan=False, allow_infinity=False),
        download_bytes=unset | st.integers(1, MAX_COUNT),
    )


def modular_readings() -> SearchStrategy[Modular]:
    """What a device with a modular model says of itself."""
    return st.builds(
        Modular,
        submodel=counts,
        importance=st.lists(st.binary(max_size=16), max_size=3).map(tuple),
        images=counts,
        limits=model_limits(),
        held=st.lists(st.lists(counts, max_size=3).map(tuple), max_size=3).map(tuple),
    )


def submodel_manifests() -> SearchStrategy[SubModelManifest]:
    """Manifests of sub-models."""
    refs = st.builds(ModuleRef, module=numbers, version=counts, piece=digests)
    layers = st.lists(refs, min_size=1, max_size=3).map(tuple)
    return st.builds(
        SubModelManifest,
        group=names,
        device=names,
        model=digests,
        version=st.integers(1, MAX_COUNT),
        created_ns=counts,
        expires_ns=counts,
        layers=st.lists(layers, min_size=1, max_size=3).map(tuple),
        costs=amounts,
        limits=amounts,
    )


def submodels(fields: Fields) -> SearchStrategy[SubModel]:
    """Correctly signed sub-models."""

    def signed(manifest: SubModelManifest, key: Ed25519PrivateKey, own: dict[str, Any]) -> SubModel:
        encoded, signature = sign_manifest(manifest, key)
        public = key.public_key().public_bytes_raw()
        return SubModel(**own, manifest=encoded, signature=signature, key=public)

    return st.builds(signed, submodel_manifests(), keys, st.fixed_dictionaries(fields))


def fetches(fields: Fields) -> SearchStrategy[Fetch]:
    """Questions for pieces, some of which go on where an answer broke off."""
    wants = st.builds(
        Want,
        layer=numbers,
        module=numbers,
        piece=digests,
        have=unset | digests,
        content=unset | digests,
        offset=counts,
    )
    listed = st.lists(wants, max_size=3).map(tuple)
    return st.builds(Fetch, **fields, submodel=counts, wants=listed)


def blobs(fields: Fields) -> SearchStrategy[Blob]:
    """Chunks of contents."""
    return st.builds(
        Blob,
        **fields,
        piece=digests,
        base=unset | digests,
        content=digests,
        size_bytes=st.integers(1, 2**40),
        offset=counts,
        data=st.binary(max_size=64),
    )


def module_updates(fields: Fields) -> SearchStrategy[ModuleUpdate]:
    """Module updates of devices that train."""
    return st.builds(
        ModuleUpdate,
        **fields,
        module=digests,
        base_version=counts,
        samples=counts,
        importance=st.floats(0, 1),
        arrays=named_arrays(),
        delta=unset | deltas(),
    )
