"""Pure. Where the broker is and how to talk to it, read from one URL."""

from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import parse_qsl, unquote, urlsplit

from driftwell.messages.errors import SettingsError

PORTS: Final = {"mqtt": 1883, "mqtts": 8883}


@dataclass(frozen=True, slots=True)
class BrokerSettings:
    """One broker. Times in seconds, sizes in bytes."""

    host: str
    port: int
    tls: bool = False
    username: str | None = None
    password: str | None = None
    ca_file: Path | None = None
    certificate_file: Path | None = None
    key_file: Path | None = None
    keepalive_s: int = 20
    connect_timeout_s: float = 10.0
    ack_timeout_s: float = 15.0
    packet_limit_bytes: int = 1_500_000
    inbox_limit_bytes: int = 64_000_000
    """Deliveries held for the program before further ones are left unacknowledged."""

    def __repr__(self) -> str:
        """The URL without the password."""
        scheme = "mqtts" if self.tls else "mqtt"
        user = f"{self.username}:***@" if self.username else ""
        return f"{scheme}://{user}{self.host}:{self.port}"


def parse_broker_url(url: str) -> BrokerSettings:
    """Read `mqtt[s]://[user[:password]@]host[:port][?ca=FILE&cert=FILE&key=FILE&keepalive=S]`.

    Raises:
        SettingsError: if it is not such a URL; the text shows one that is.
    """
    hint = "expected a URL such as mqtt://localhost:1883 or mqtts://user:secret@broker.lan:8883"
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise SettingsError(f"broker {url!r}: {error}; {hint}") from None
    if parts.scheme not in PORTS or not parts.hostname or parts.path not in ("", "/"):
        raise SettingsError(f"broker {url!r} is not understood; {hint}")
    options = dict(parse_qsl(parts.query))
    unknown = set(options) - {"ca", "cert", "key", "keepalive"}
    if unknown:
        raise SettingsError(
            f"broker URL has unknown option {min(unknown)!r}; known: ca, cert, key, keepalive"
        )
    keepalive = options.get("keepalive", "20")
    if not keepalive.isdigit() or not 1 <= int(keepalive) <= 3600:  # noqa: PLR2004
        raise SettingsError(f"broker URL: keepalive {keepalive!r} is not 1 to 3600 seconds")
    return BrokerSettings(
        host=parts.hostname,
        port=port or PORTS[parts.scheme],
        tls=parts.scheme == "mqtts",
        username=unquote(parts.username) if parts.username else None,
        password=unquote(parts.password) if parts.password else None,
        ca_file=_file(options, "ca"),
        certificate_file=_file(options, "cert"),
        key_file=_file(options, "key"),
        keepalive_s=int(keepalive),
    )


def _file(options: dict[str, str], name: str) -> Path | None:
    return Path(options[name]) if name in options else None
