"""Certificate files: what is read, and what is said about one that cannot be read."""

import ssl
from pathlib import Path

import pytest
from tests.contract.credentials import write_certificate

from driftwell.broker.settings import BrokerSettings
from driftwell.broker.tls import tls_context
from driftwell.messages.errors import BrokerError


def settings(**files: Path) -> BrokerSettings:
    return BrokerSettings(host="b", port=8883, tls=True, **files)  # type: ignore[arg-type]


def test_without_tls_there_is_no_context() -> None:
    """Nothing is read."""
    assert tls_context(BrokerSettings(host="b", port=1883, ca_file=Path("missing"))) is None


def test_the_broker_must_prove_who_it_is(tmp_path: Path) -> None:
    """By a certificate for its host name, and in TLS 1.2 or newer."""
    write_certificate(tmp_path)

    context = tls_context(
        settings(
            ca_file=tmp_path / "server.crt",
            certificate_file=tmp_path / "server.crt",
            key_file=tmp_path / "server.key",
        )
    )

    assert context is not None
    assert context.verify_mode is ssl.CERT_REQUIRED
    assert context.check_hostname
    assert context.minimum_version >= ssl.TLSVersion.TLSv1_2


@pytest.mark.parametrize(
    ("files", "advice"),
    [
        ({"ca_file": "missing.pem"}, r"missing\.pem.*\?ca=FILE"),
        ({"ca_file": "junk.pem"}, r"junk\.pem.*\?ca=FILE"),
        ({"certificate_file": "missing.pem"}, r"missing\.pem.*\?cert=FILE&key=FILE"),
        ({"certificate_file": "server.crt", "key_file": "junk.pem"}, r"junk\.pem.*\?cert="),
    ],
)
def test_a_bad_file_is_named(tmp_path: Path, files: dict[str, str], advice: str) -> None:
    """With the option that gives another one."""
    write_certificate(tmp_path)
    (tmp_path / "junk.pem").write_text("no certificate")
    paths = {field: tmp_path / name for field, name in files.items()}

    with pytest.raises(BrokerError, match=advice):
        tls_context(settings(**paths))
