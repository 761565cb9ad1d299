"""Where a device is: recalled, drifted, placed by the cloud, and after a restart."""

import msgspec
import pytest
from tests import tiny

from driftwell.edge.bank import BankSettings
from driftwell.edge.domains import Domains, decode_memory
from driftwell.edge.drift import DriftSettings
from driftwell.messages.head import Manifest
from driftwell.messages.signature import Signature, make_signature, pack_signature
from driftwell.models.bundle import Bundle

SETTINGS = DriftSettings(block_images=64, warm_up_images=128)


def at(place: float, images: int = 64) -> Signature:
    return make_signature([place], [1.0], images=images)


def version_for(bundle: Bundle, domain: int, place: float) -> Manifest:
    cohort = f"cam-1/{domain}" if domain else "cam-1"
    manifest = tiny.make_manifest(bundle, version=1, cohort=cohort)
    return msgspec.structs.replace(manifest, signature=pack_signature(at(place)))


def where(domains: Domains) -> tuple[int | None, bool, int]:
    return domains.domain, domains.is_placed, domains.drifts


def seen(domains: Domains) -> tuple[int | None, float] | None:
    """What the next sample batch would say."""
    place = domains.place
    return None if place is None else (place.domain, float(place.signature.mean[0]))


@pytest.fixture
def domains(bundle: Bundle) -> Domains:
    """In domain 0, at 0; domain 1, at 4, is known as well."""
    domains = Domains(SETTINGS, BankSettings())
    domains.learned(version_for(bundle, 1, 4.0))
    domains.learned(version_for(bundle, 0, 0.0))
    domains.take_place(0, 0)
    for _ in range(8):
        assert domains.recall(at(0.0)) is None
        domains.watch(at(0.0), 1.0)
    return domains


def test_a_known_domain_is_recalled_at_its_first_batch(domains: Domains) -> None:
    """It is the device's domain from then on, and counts as left and placed."""
    entry = domains.recall(at(4.0))

    assert entry is not None
    assert where(domains) == (1, True, 1)
    assert entry.domain == 1
    assert seen(domains) is None, "nothing was seen of it yet"
    domains.watch(at(4.0), 1.0)
    assert seen(domains) == (1, 4.0)
    assert domains.recall(at(4.0)) is None


def test_small_batches_are_asked_together(domains: Domains) -> None:
    """A signature of a few images says nothing: a block of 64 does."""
    for number in range(7):
        assert domains.recall(at(4.0, images=8)) is None, number
        domains.watch(at(4.0, images=8), 1.0)

    assert domains.recall(at(4.0, images=8)) is not None


def test_an_unknown_domain_is_nowhere_until_the_cloud_says(domains: Domains) -> None:
    """The samples go without a domain; an ack about earlier ones changes nothing."""
    verdict = domains.watch(at(9.0), 1.0)

    assert verdict is not None
    assert verdict.drifted
    assert where(domains) == (None, False, 1)
    assert seen(domains) == (None, 9.0)
    assert not domains.take_place(0, 0)
    assert where(domains) == (None, False, 1)
    assert domains.take_place(1, 2)
    assert where(domains) == (2, True, 1)


def test_the_clouds_word_counts_most(domains: Domains) -> None:
    """Also for a device that took itself to be placed: a cloud that lost its state counts anew."""
    assert domains.recall(at(4.0)) is not None
    assert where(domains) == (1, True, 1)

    assert domains.take_place(1, 0)

    assert where(domains) == (0, True, 1)
    assert not domains.take_place(1, 0), "no news"


def test_at_birth_a_device_recalls_the_domain_it_is_in(bundle: Bundle) -> None:
    """The heads of the cohort are there before its first batch."""
    domains = Domains(SETTINGS, BankSettings())
    domains.learned(version_for(bundle, 0, 0.0))
    domains.learned(version_for(bundle, 3, 4.0))

    assert domains.recall(at(4.05)) is not None
    assert domains.domain == 3


def test_at_birth_in_the_first_domain_nothing_has_to_be_installed(bundle: Bundle) -> None:
    """The device takes that domain's versions anyway; it is placed."""
    domains = Domains(SETTINGS, BankSettings())
    domains.learned(version_for(bundle, 0, 0.0))

    assert domains.recall(at(0.05)) is None
    assert where(domains) == (0, True, 0)


def test_who_does_not_watch_never_leaves(bundle: Bundle) -> None:
    """And says nothing of domains."""
    domains = Domains(None, BankSettings())
    domains.learned(version_for(bundle, 3, 4.0))

    assert domains.recall(at(4.0)) is None
    assert domains.watch(at(4.0), 1.0) is None
    assert not domains.take_place(0, 3)
    assert where(domains) == (0, False, 0)
    assert seen(domains) is None


def test_a_damaged_memory_is_none() -> None:
    """The device begins in the first domain then."""
    for damaged in (None, b"", b"7", b'{"drifts": "many"}'):
        assert decode_memory(damaged) is None
