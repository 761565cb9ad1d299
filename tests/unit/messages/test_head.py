"""The head: what its parts accept, and what it says when it says nothing."""

import msgspec
import pytest
from tests.golden.fixed_messages import HEAD, MANIFEST, MANIFEST_DOMAIN
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


def test_a_version_need_not_say_what_its_images_look_like() -> None:
    """Without domains there is no signature, and the manifest has the bytes of before."""
    fields = fields_of(MANIFEST_DOMAIN)
    del fields["signature"]

    assert msgspec.convert(fields, Manifest).signature is msgspec.UNSET
    assert "signature" not in fields_of(MANIFEST)


@pytest.mark.parametrize("cohort", ["yard", "yard/1", "yard/9999", "7/7", "c" * 48 + "/9999"])
def test_a_version_is_for_a_cohort_or_a_domain_of_it(cohort: str) -> None:
    """A domain other than the first has its number behind the cohort's name."""
    fields = fields_of(MANIFEST) | {"cohort": cohort}

    assert msgspec.convert(fields, Manifest).cohort == cohort


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
