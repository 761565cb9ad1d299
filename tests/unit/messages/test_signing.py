"""Signatures: a manifest is read only if it is what the trusted key signed."""

import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st
from tests.golden.fixed_messages import HEAD, KEY, MANIFEST, PUBLIC_KEY
from tests.modular_strategies import submodel_manifests
from tests.strategies import keys, manifests
from tests.unit.messages.tampering import fields_of

from driftwell.messages import Head, Manifest, SubModel, SubModelManifest
from driftwell.messages.errors import DeltaError, MalformedError
from driftwell.messages.signing import sign_manifest, verify_head, verify_submodel

OTHER_KEY = Ed25519PrivateKey.from_private_bytes(bytes(32))
OTHER_PUBLIC_KEY = OTHER_KEY.public_key().public_bytes_raw()


def signed(content: bytes) -> Head:
    """A head with `content` in the place of the manifest, correctly signed."""
    return msgspec.structs.replace(HEAD, manifest=content, signature=KEY.sign(content))


@given(manifests(), keys)
def test_a_signed_manifest_comes_back(manifest: Manifest, key: Ed25519PrivateKey) -> None:
    """Who trusts the key reads exactly the manifest that was signed."""
    public = key.public_key().public_bytes_raw()
    encoded, signature = sign_manifest(manifest, key)
    head = msgspec.structs.replace(HEAD, manifest=encoded, signature=signature, key=public)

    assert manifest == verify_head(head, public)


@given(manifests(), submodel_manifests())
def test_a_version_is_no_sub_model(version: Manifest, submodel: SubModelManifest) -> None:
    """One key signs both, so neither must be read as the other, whoever sends it on."""
    encoded, signature = sign_manifest(version, KEY)
    sent_on = SubModel(
        device=HEAD.device, session=HEAD.session, seq=1, clock_ns=HEAD.clock_ns, model=HEAD.model,
        manifest=encoded, signature=signature, key=PUBLIC_KEY,
    )  # fmt: skip
    with pytest.raises(MalformedError):
        verify_submodel(sent_on, PUBLIC_KEY)

    with pytest.raises(MalformedError):
        verify_head(signed(sign_manifest(submodel, KEY)[0]), PUBLIC_KEY)


def test_the_signature_is_plain_ed25519_over_the_bytes() -> None:
    """Any Ed25519 implementation can verify: nothing is hashed or prefixed before."""
    encoded, signature = sign_manifest(MANIFEST, KEY)

    KEY.public_key().verify(signature, encoded)
    assert msgspec.msgpack.decode(encoded, type=Manifest) == MANIFEST


@pytest.mark.parametrize("field", ["manifest", "signature"])
def test_any_altered_byte_is_noticed(field: str) -> None:
    """Whichever byte of manifest or signature is altered, the head is refused."""
    content: bytes = getattr(HEAD, field)
    for position in range(len(content)):
        altered = bytearray(content)
        altered[position] ^= 1
        with pytest.raises(DeltaError) as caught:
            verify_head(msgspec.structs.replace(HEAD, **{field: bytes(altered)}), PUBLIC_KEY)
        assert caught.value.code == "bad-signature"


@given(st.binary(max_size=8))
def test_bytes_added_to_the_manifest_are_noticed(tail: bytes) -> None:
    """A manifest that is longer or shorter than what was signed is refused."""
    longer = msgspec.structs.replace(HEAD, manifest=HEAD.manifest + tail + b"\0")
    shorter = msgspec.structs.replace(HEAD, manifest=HEAD.manifest[: -1 - len(tail)])

    for head in (longer, shorter):
        with pytest.raises(DeltaError) as caught:
            verify_head(head, PUBLIC_KEY)
        assert caught.value.code == "bad-signature"


def test_another_key_is_not_trusted() -> None:
    """A head correctly signed with a key the edge does not trust is refused as such."""
    encoded, signature = sign_manifest(MANIFEST, OTHER_KEY)
    head = msgspec.structs.replace(
        HEAD, manifest=encoded, signature=signature, key=OTHER_PUBLIC_KEY
    )
    assert verify_head(head, OTHER_PUBLIC_KEY) == MANIFEST

    with pytest.raises(DeltaError) as caught:
        verify_head(head, PUBLIC_KEY)

    assert caught.value.code == "untrusted-key"


def test_claiming_the_trusted_key_does_not_help() -> None:
    """A head that names the trusted key and is signed with another is refused."""
    encoded, signature = sign_manifest(MANIFEST, OTHER_KEY)
    head = msgspec.structs.replace(HEAD, manifest=encoded, signature=signature)

    with pytest.raises(DeltaError) as caught:
        verify_head(head, PUBLIC_KEY)

    assert caught.value.code == "bad-signature"


def test_the_signature_of_another_manifest_does_not_help() -> None:
    """A signature counts for the manifest it was made for, and for no other."""
    later = msgspec.structs.replace(MANIFEST, version=MANIFEST.version + 1)
    head = msgspec.structs.replace(HEAD, manifest=msgspec.msgpack.encode(later))

    with pytest.raises(DeltaError) as caught:
        verify_head(head, PUBLIC_KEY)

    assert caught.value.code == "bad-signature"


@given(st.binary(max_size=100))
def test_signed_garbage_is_malformed(content: bytes) -> None:
    """Even the trusted key cannot make the edge read what is no manifest."""
    with pytest.raises(MalformedError, match="no manifest"):
        verify_head(signed(content), PUBLIC_KEY)


@pytest.mark.parametrize(
    "content", [b"\x91" * 10_000 + b"\x90", b"\x81\xa0" * 10_000 + b"\x80", b"\xdd\xff\xff\xff\xff"]
)
def test_signed_nesting_is_malformed(content: bytes) -> None:
    """Nesting too deep to decode is refused like any other garbage."""
    nested = b"\x81" + msgspec.msgpack.encode("later") + content

    for garbage in (content, nested):
        with pytest.raises(MalformedError, match="no manifest"):
            verify_head(signed(garbage), PUBLIC_KEY)


@given(st.data())
def test_a_signed_manifest_cut_short_is_malformed(data: st.DataObject) -> None:
    """A proper prefix of a manifest is no manifest, though it be signed."""
    length = data.draw(st.integers(0, len(HEAD.manifest) - 1))

    with pytest.raises(MalformedError, match="no manifest"):
        verify_head(signed(HEAD.manifest[:length]), PUBLIC_KEY)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("group", "_"),
        ("cohort", "A"),
        ("cohort", "yard/"),
        ("cohort", "yard/0"),
        ("cohort", "yard/01"),
        ("cohort", "yard/10000"),
        ("cohort", "yard/1\n"),
        ("cohort", "yard/1/2"),
        ("cohort", "c" * 49 + "/1"),
        ("model", "0"),
        ("source", ""),
        ("version", 0),
        ("version", 2**62 + 1),
        ("parent", None),
        ("result", "0" * 65),
        ("created_ns", -1),
        ("expires_ns", 1.5),
        ("newest_sample_ns", "now"),
        ("rollback", 1),
        ("signature", None),
        ("signature", {}),
        ("signature", {"mean": b"", "variance": b"", "images": 1}),
        ("signature", {"mean": bytes(4), "variance": bytes(4), "images": -1}),
        ("provenance", {}),
        ("delta", None),
    ],
)
def test_a_signed_manifest_out_of_bounds_is_malformed(field: str, value: object) -> None:
    """A manifest that breaks a rule is refused, though it be signed."""
    content = msgspec.msgpack.encode(fields_of(MANIFEST) | {field: value})

    with pytest.raises(MalformedError, match=field):
        verify_head(signed(content), PUBLIC_KEY)


def test_a_manifest_of_a_later_minor_version_is_read() -> None:
    """Fields that this program does not know are ignored in the manifest too."""
    content = msgspec.msgpack.encode(fields_of(MANIFEST) | {"later": [{}]})

    assert verify_head(signed(content), PUBLIC_KEY) == MANIFEST
