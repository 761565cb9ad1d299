"""Acknowledgements: what is stored, what is settled, what was refused."""

import msgspec
import pytest
from tests.golden.fixed_messages import ACK, ACK_DOMAIN
from tests.unit.messages.tampering import fields_of, payload_with, payload_without

from driftwell.messages import Ack, RefusalCode, Refused, decode
from driftwell.messages.ack import MAX_REFUSED
from driftwell.messages.errors import MalformedError
from driftwell.messages.names import MAX_DOMAIN


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("of_session", "0" * 15),
        ("of_session", "0" * 16 + "\n"),
        ("of_session", None),
        ("stored_seq", -1),
        ("settled_seq", -1),
        ("version", -1),
        ("drifts", -1),
        ("drifts", None),
        ("domain", -1),
        ("domain", MAX_DOMAIN + 1),
        ("domain", "yard/1"),
        ("domain", None),
        ("refused", [{"seq": 1}]),
        ("refused", [{"seq": -1, "code": "expired"}]),
        ("refused", [{"seq": 1, "code": "c" * 33}]),
        ("refused", [{"seq": 1, "code": "expired"}] * (MAX_REFUSED + 1)),
        ("refused", None),
    ],
)
def test_an_ack_out_of_bounds_is_malformed(field: str, value: object) -> None:
    """An acknowledgement that breaks a rule deletes nothing: it is refused."""
    with pytest.raises(MalformedError, match=field):
        decode(payload_with(ACK, field, value))


@pytest.mark.parametrize("field", ["of_session", "stored_seq", "settled_seq", "version"])
def test_an_ack_says_what_it_answers(field: str) -> None:
    """Session, seqs and version have no defaults."""
    with pytest.raises(MalformedError, match=field):
        decode(payload_without(ACK, field))


def test_nothing_refused_need_not_be_said() -> None:
    """Without the list, nothing was refused."""
    message = decode(payload_without(ACK, "refused"))

    assert isinstance(message, Ack)
    assert message.refused == ()


def test_every_refusal_code_fits() -> None:
    """All codes together travel in one acknowledgement, and come back in order."""
    refused = [{"seq": seq, "code": str(code)} for seq, code in enumerate(RefusalCode)]

    message = decode(payload_with(ACK, "refused", refused))

    assert isinstance(message, Ack)
    assert message.refused == tuple(
        Refused(seq=seq, code=code) for seq, code in enumerate(RefusalCode)
    )


@pytest.mark.parametrize("field", ["drifts", "domain"])
def test_an_ack_need_not_name_a_domain(field: str) -> None:
    """A cloud that keeps no domains apart says nothing of them."""
    message = decode(payload_without(ACK_DOMAIN, field))

    assert message == msgspec.structs.replace(ACK_DOMAIN, **{field: msgspec.UNSET})
    assert field not in fields_of(message)


@pytest.mark.parametrize("domain", [0, MAX_DOMAIN])
def test_any_domain_can_be_told(domain: int) -> None:
    """The first domain is told like any other."""
    message = decode(payload_with(ACK, "domain", domain))

    assert isinstance(message, Ack)
    assert message.domain == domain
