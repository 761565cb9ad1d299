"""Which versions a device takes, and that it refuses the others with the right code."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import msgspec
import numpy as np
import pytest
from tests import tiny

from driftwell.edge.applier import Incumbent, is_news, resolve_version
from driftwell.messages.delta import Delta
from driftwell.messages.digest import digest_arrays
from driftwell.messages.errors import WireError
from driftwell.messages.head import Manifest
from driftwell.models.bundle import Bundle


def incumbent_of(bundle: Bundle, version: int = 0) -> Incumbent:
    source = bundle.manifest.source_digest
    return Incumbent("default", "cam-1", bundle.digest, source, version=version, result=source)


def not_finite(manifest: Manifest) -> Delta:
    values = bytearray(manifest.delta.values)
    values[:2] = np.array([np.nan], dtype="<f2").tobytes()
    return msgspec.structs.replace(manifest.delta, values=bytes(values))


Change = Callable[[Manifest], dict[str, Any]]
REFUSALS: dict[str, Change] = {
    "wrong-model": lambda _: {"model": "f" * 64},
    "wrong-cohort": lambda _: {"cohort": "cam-2"},
    "wrong-source": lambda _: {"source": "f" * 64},
    "expired": lambda _: {"expires_ns": tiny.NOW_NS},
    "older-version": lambda _: {"version": 4},
    "wrong-result": lambda _: {"result": "f" * 64},
    "not-finite": lambda manifest: {"delta": not_finite(manifest)},
    "bad-array": lambda manifest: {
        "delta": msgspec.structs.replace(manifest.delta, values=manifest.delta.values[:-2])
    },
}


@pytest.mark.parametrize("code", REFUSALS)
def test_each_attack_has_its_code(bundle: Bundle, code: str) -> None:
    """One wrong field is refused with its code, and the source is left bit for bit."""
    manifest = tiny.make_manifest(bundle, version=5)
    incumbent = incumbent_of(bundle, version=4)
    assert resolve_version(incumbent, manifest, bundle.source, now_ns=tiny.NOW_NS)
    altered = msgspec.structs.replace(manifest, **REFUSALS[code](manifest))

    with pytest.raises(WireError) as caught:
        resolve_version(incumbent, altered, bundle.source, now_ns=tiny.NOW_NS)

    assert caught.value.code == code
    assert digest_arrays(bundle.source) == bundle.manifest.source_digest


def test_another_group_is_another_cohort(bundle: Bundle) -> None:
    """The same cohort name in another group is refused as wrong-cohort."""
    manifest = tiny.make_manifest(bundle, group="elsewhere")

    with pytest.raises(WireError) as caught:
        resolve_version(incumbent_of(bundle), manifest, bundle.source, now_ns=tiny.NOW_NS)

    assert caught.value.code == "wrong-cohort"


def test_a_version_leads_to_the_promised_bits(bundle: Bundle) -> None:
    """What comes out is source plus delta, with the result digest of the manifest."""
    manifest = tiny.make_manifest(bundle)

    state = resolve_version(incumbent_of(bundle), manifest, bundle.source, now_ns=tiny.NOW_NS)

    assert digest_arrays(state) == manifest.result != bundle.manifest.source_digest
    expected = tiny.applied(bundle)
    assert all(np.array_equal(state[name], expected[name]) for name in expected)


def test_a_signed_rollback_may_be_lower(bundle: Bundle) -> None:
    """A manifest marked as rollback is taken although its version is lower."""
    manifest = tiny.make_manifest(bundle, version=2, rollback=True)

    state = resolve_version(
        incumbent_of(bundle, version=9), manifest, bundle.source, now_ns=tiny.NOW_NS
    )

    assert digest_arrays(state) == manifest.result


def test_the_last_nanosecond_counts(bundle: Bundle) -> None:
    """A version is good until just before its expiry."""
    manifest = tiny.make_manifest(bundle, expires_ns=tiny.NOW_NS + 1)

    assert resolve_version(incumbent_of(bundle), manifest, bundle.source, now_ns=tiny.NOW_NS)


def test_the_same_version_is_no_news(bundle: Bundle) -> None:
    """Only a manifest that differs in version or result is news."""
    manifest = tiny.make_manifest(bundle, version=3)
    running = replace(incumbent_of(bundle, version=3), result=manifest.result)

    assert not is_news(running, manifest)
    assert is_news(running, msgspec.structs.replace(manifest, version=4))
    assert is_news(running, msgspec.structs.replace(manifest, result="f" * 64))
