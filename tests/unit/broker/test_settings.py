"""Reading the broker URL."""

from pathlib import Path

import pytest

from driftwell.broker import BrokerSettings, parse_broker_url
from driftwell.messages.errors import SettingsError


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("mqtt://broker.lan", BrokerSettings(host="broker.lan", port=1883)),
        ("mqtt://broker.lan:2000/", BrokerSettings(host="broker.lan", port=2000)),
        ("mqtts://broker.lan", BrokerSettings(host="broker.lan", port=8883, tls=True)),
        ("mqtt://[::1]:1884", BrokerSettings(host="::1", port=1884)),
        (
            "mqtt://camera-1:p%40ss%3Aword@10.0.0.1?keepalive=60",
            BrokerSettings(
                host="10.0.0.1",
                port=1883,
                username="camera-1",
                password="p@ss:word",
                keepalive_s=60,
            ),
        ),
        (
            "mqtts://b?ca=/etc/ca.pem&cert=c.pem&key=k.pem",
            BrokerSettings(
                host="b",
                port=8883,
                tls=True,
                ca_file=Path("/etc/ca.pem"),
                certificate_file=Path("c.pem"),
                key_file=Path("k.pem"),
            ),
        ),
    ],
)
def test_a_good_url_is_read(url: str, expected: BrokerSettings) -> None:
    """Each part of it ends in its own field."""
    assert parse_broker_url(url) == expected


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("broker.lan:1883", "mqtt://localhost:1883"),
        ("http://broker.lan", "mqtt://localhost:1883"),
        ("mqtt://", "mqtt://localhost:1883"),
        ("mqtt://broker.lan/topic", "mqtt://localhost:1883"),
        ("mqtt://broker.lan:port", "mqtt://localhost:1883"),
        ("mqtt://broker.lan:70000", "mqtt://localhost:1883"),
        ("mqtt://broker.lan?keepalife=3", "unknown option 'keepalife'"),
        ("mqtt://broker.lan?keepalive=0", "1 to 3600 seconds"),
        ("mqtt://broker.lan?keepalive=-1", "1 to 3600 seconds"),
        ("mqtt://broker.lan?keepalive=3601", "1 to 3600 seconds"),
        ("mqtt://broker.lan?keepalive=soon", "1 to 3600 seconds"),
    ],
)
def test_a_bad_url_is_refused_with_advice(url: str, said: str) -> None:
    """The text says what is wrong, or shows one that is right."""
    with pytest.raises(SettingsError) as error:
        parse_broker_url(url)

    assert said in str(error.value)


def test_the_password_is_not_shown() -> None:
    """Settings appear in logs and errors."""
    settings = parse_broker_url("mqtts://camera-1:secret@broker.lan")

    assert repr(settings) == "mqtts://camera-1:***@broker.lan:8883"
    assert "secret" not in f"{settings} {settings!r}"
