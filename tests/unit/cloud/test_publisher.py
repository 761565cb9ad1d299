"""From a state to a signed head that an edge applies to the same bits."""

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from tests import tiny

from driftwell.cloud.publisher import Lineage, make_manifest
from driftwell.cloud.signing_key import FILE, public_key, signing_key
from driftwell.messages.delta import apply_delta
from driftwell.messages.digest import digest_arrays
from driftwell.messages.errors import ArrayError, SettingsError
from driftwell.messages.head import MAX_BATCHES, Head, Manifest
from driftwell.messages.signing import sign_manifest, verify_head
from driftwell.models.bundle import Bundle


def made(
    edge: Bundle, state: dict[str, NDArray[np.float32]], parent: str = "", batches: int = 1
) -> Manifest | None:
    lineage = Lineage("default", edge.digest, edge.manifest.source_digest, edge.source,
                      "cema", "0" * 16, "test")  # fmt: skip
    return make_manifest(
        lineage, state, cohort="cam-1", version=3, parent=parent or edge.manifest.source_digest,
        created_ns=10, lifetime_ns=5, newest_sample_ns=7, trained_samples=32,
        batches=[str(number) for number in range(batches)],
    )  # fmt: skip


def test_the_result_is_what_the_edge_computes(edge: Bundle) -> None:
    """Source plus delta has the digest of the manifest, and is near the state to publish."""
    state = tiny.moved(edge.source, 0.1)
    manifest = made(edge, state, batches=MAX_BATCHES + 5)

    assert manifest is not None
    computed = apply_delta(edge.source, manifest.delta)
    assert digest_arrays(computed) == manifest.result
    assert all(np.allclose(computed[name], state[name], atol=1e-3) for name in state)
    assert (manifest.created_ns, manifest.expires_ns, manifest.version) == (10, 15, 3)
    assert manifest.provenance.batches[-1] == str(MAX_BATCHES + 4)
    assert len(manifest.provenance.batches) == MAX_BATCHES


def test_nothing_changed_is_no_version(edge: Bundle) -> None:
    """The parent's own bits, and a change that rounding swallows, make no manifest."""
    assert made(edge, {name: array.copy() for name, array in edge.source.items()}) is None
    version = made(edge, tiny.moved(edge.source))
    assert version is not None
    assert made(edge, tiny.moved(edge.source), parent=version.result) is None


def test_a_state_that_is_not_finite_is_never_published(edge: Bundle) -> None:
    """NaN raises and makes no manifest."""
    state = tiny.moved(edge.source)
    state["bn1.bias"][0] = np.nan

    with pytest.raises(ArrayError):
        made(edge, state)


def test_a_head_carries_the_signed_bytes(edge: Bundle, tmp_path: Path) -> None:
    """Whoever trusts the cloud's key reads the manifest back from the head."""
    key = signing_key(tmp_path)
    manifest = made(edge, tiny.moved(edge.source))
    assert manifest is not None
    encoded, signature = sign_manifest(manifest, key)
    head = Head(
        device="_", session="c" * 16, seq=1, clock_ns=1, model=edge.digest, manifest=encoded,
        signature=signature, key=public_key(key),
    )  # fmt: skip

    assert verify_head(head, public_key(key)) == manifest


def test_the_key_is_made_once_and_for_this_user_only(tmp_path: Path) -> None:
    """The file has permissions 600, and gives the same key again."""
    first = signing_key(tmp_path)

    assert (tmp_path / FILE).stat().st_mode & 0o777 == 0o600
    assert public_key(signing_key(tmp_path)) == public_key(first)
    assert [file.name for file in tmp_path.iterdir()] == [FILE]


@pytest.mark.parametrize("content", [b"", b"zz" * 32, b"00" * 31, b"\xff\xfe", bytes(32)])
def test_a_damaged_key_is_never_replaced(tmp_path: Path, content: bytes) -> None:
    """A file that is no key is an error, and stays as it is."""
    (tmp_path / FILE).write_bytes(content)

    with pytest.raises(SettingsError, match="not a signing key"):
        signing_key(tmp_path)

    assert (tmp_path / FILE).read_bytes() == content
