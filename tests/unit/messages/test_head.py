"""The head: what its parts accept, and what it says when it says nothing."""

import msgspec
import pytest
from tests.golden.fixed_messages import HEAD, MANIFEST
from tests.unit.messages.tampering import fields_of, payload_with, payload_without

from driftwell.messages import Manifest, Provenance, decode
from driftwell.messages.errors import MalformedError
from driftwell.messages.head import MAX_BATCHES


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("signature", b"\0" * 63),
        ("signature", b"\0" * 65),
        ("signature", "0" * 64),
        ("key", b"\0" * 31),
        ("key", b"\0" * 33),
        ("manifest", None),
        ("manifest", {}),
    ],
)
def test_a_head_out_of_bounds_is_malformed(field: str, value: object) -> None:
    """A signature is 64 bytes and a key 32, and the manifest is bytes, not a map."""
    with pytest.raises(MalformedError, match=field):
        decode(payload_with(HEAD, field, value))


@pytest.mark.parametrize("field", ["manifest", "signature", "key"])
def test_a_head_has_all_its_parts(field: str) -> None:
    """There is no unsigned head, and none without a manifest."""
    with pytest.raises(MalformedError, match=field):
        decode(payload_without(HEAD, field))


def test_a_version_is_no_rollback_unless_it_says_so() -> None:
    """The permission to go back is never given by leaving it out."""
    fields = fields_of(MANIFEST)
    del fields["rollback"]

    assert msgspec.convert(fields, Manifest).rollback is False


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("method", "m" * 49),
        ("config", "c" * 65),
        ("software", "s" * 49),
        ("trained_samples", -1),
        ("batches", ["b"] * (MAX_BATCHES + 1)),
        ("batches", ["b" * 97]),
        ("batches", [7]),
    ],
)
def test_provenance_is_bounded(field: str, value: object) -> None:
    """A text that is too long or one batch too many is refused."""
    fields = fields_of(MANIFEST.provenance)
    assert MANIFEST.provenance == msgspec.convert(fields, Provenance)

    with pytest.raises(msgspec.ValidationError, match=field):
        msgspec.convert(fields | {field: value}, Provenance)
