"""The domain bank: finding what returns, keeping what is newest, giving way."""

import pytest
from tests import tiny

from driftwell.edge.bank import BankSettings, DomainBank, Entry
from driftwell.messages.head import Manifest
from driftwell.messages.signature import Signature, make_signature
from driftwell.models.bundle import Bundle


@pytest.fixture
def manifest(bundle: Bundle) -> Manifest:
    return tiny.make_manifest(bundle)


def at(place: float, images: int = 64) -> Signature:
    """One channel of variance 1: two of these are (a - b)^2 / 2 apart."""
    return make_signature([place], [1.0], images=images)


def bank_of(manifest: Manifest, *places: float, entries: int = 16) -> DomainBank:
    """Domains 0, 1, ... at these places."""
    bank = DomainBank(BankSettings(entries=entries))
    for domain, place in enumerate(places):
        bank = bank.put(Entry(domain, manifest, at(place)))
    return bank


def recalled(bank: DomainBank, seen: float, *, present: float | None, here: int | None) -> int:
    entry = bank.recall(at(seen), present=None if present is None else at(present), here=here)
    return -1 if entry is None else entry.domain


def test_what_returns_is_known(manifest: Manifest) -> None:
    """The nearest entry within the limit, wherever the device was."""
    bank = bank_of(manifest, 0.0, 1.0, 2.0)

    assert recalled(bank, 0.9, present=2.0, here=2) == 1
    assert recalled(bank, 0.9, present=None, here=None) == 1
    assert recalled(bank, 0.05, present=2.0, here=2) == 0


def test_what_is_too_far_is_unknown(manifest: Manifest) -> None:
    """0.25 is 0.031 apart, over the limit of 0.02; an empty bank knows nothing."""
    assert recalled(bank_of(manifest, 0.0), 0.25, present=None, here=None) == -1
    assert recalled(DomainBank(), 0.0, present=None, here=None) == -1


def test_the_present_domain_has_to_be_clearly_further(manifest: Manifest) -> None:
    """Twice as far, with the defaults: one batch's chance does not move the device."""
    bank = bank_of(manifest, 0.0, 0.19)

    assert recalled(bank, 0.10, present=0.0, here=0) == -1
    assert recalled(bank, 0.18, present=0.0, here=0) == 1
    assert recalled(bank, 0.0, present=0.0, here=0) == -1


def test_an_entry_without_a_signature_is_kept_and_never_recalled(manifest: Manifest) -> None:
    """The version counts for later ones of its domain."""
    bank = DomainBank().put(Entry(0, manifest, None))

    assert recalled(bank, 0.0, present=None, here=None) == -1
    assert bank.find(0) is not None
    assert bank.find(1) is None


def test_the_one_not_used_for_longest_gives_way(manifest: Manifest) -> None:
    """A domain stands once; putting is using; who is to be kept is passed over."""
    bank = bank_of(manifest, 0.0, 1.0, 2.0, entries=3)
    bank = bank.put(Entry(0, manifest, at(0.5)))
    assert [entry.domain for entry in bank.entries] == [1, 2, 0]

    assert bank.put(Entry(3, manifest, at(3.0))).known == {2, 0, 3}
    assert bank.put(Entry(3, manifest, at(3.0)), keep=[1]).known == {1, 0, 3}
    assert bank.put(Entry(3, manifest, at(3.0)), keep=[0, 1, 2]).known == {2, 0, 3}


def test_another_networks_signature_is_passed_over(manifest: Manifest) -> None:
    """Of two channels, where the network has one: a stranger in the cohort harms nobody."""
    other = make_signature([0.0, 0.0], [1.0, 1.0], images=1)
    bank = DomainBank().put(Entry(1, manifest, other))

    assert recalled(bank, 0.0, present=None, here=None) == -1
    assert recalled(bank.put(Entry(0, manifest, at(0.0))), 0.0, present=None, here=None) == 0
