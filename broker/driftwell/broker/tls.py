"""Reads the certificate files that the broker settings name, and says which one is at fault."""

import ssl
from pathlib import Path

from driftwell.broker.settings import BrokerSettings
from driftwell.messages.errors import BrokerError


class _Socket(ssl.SSLSocket):
    """Closes itself when the other end is not who it should be; paho leaves it open."""

    def do_handshake(self, block: bool = False) -> None:
        try:
            super().do_handshake(block)
        except OSError:
            self.close()
            raise


def tls_context(settings: BrokerSettings) -> ssl.SSLContext | None:
    """The TLS settings of one broker, or None if it is spoken to in the clear.

    Raises:
        BrokerError: if a certificate file is missing or is not what it should be.
    """
    if not settings.tls:
        return None
    context = _trusting(settings.ca_file)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.sslsocket_class = _Socket
    if settings.certificate_file is not None:
        _identify(context, settings.certificate_file, settings.key_file)
    return context


def _trusting(ca_file: Path | None) -> ssl.SSLContext:
    try:
        return ssl.create_default_context(cafile=ca_file)
    except OSError as error:
        raise BrokerError(
            f"cannot read the certificate authority {ca_file}: {error.strerror or error}; "
            "give a PEM file as ?ca=FILE in the broker URL"
        ) from None


def _identify(context: ssl.SSLContext, certificate: Path, key: Path | None) -> None:
    try:
        context.load_cert_chain(certificate, key)
    except OSError as error:
        raise BrokerError(
            f"cannot read the client certificate {certificate} with key {key or certificate}: "
            f"{error.strerror or error}; give PEM files as ?cert=FILE&key=FILE in the broker URL"
        ) from None
