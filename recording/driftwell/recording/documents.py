"""Pure. The documents of a recorded run: the settings it ran with, and who taught.

Their names hold the group, so that recordings of several groups can be merged.
"""

from typing import Final

import msgspec

NO_BROKER: Final = "mqtt://localhost:1883"


def cloud_document(group: str) -> str:
    """The name of the document with a cloud's settings, as JSON."""
    return f"settings:cloud:{group}"


def edge_document(group: str, device: str) -> str:
    """The name of the document with a device's settings, as JSON."""
    return f"settings:edge:{group}/{device}"


def foundation_document(group: str) -> str:
    """The name of the document with the digest of the bundle that taught."""
    return f"bundle:foundation:{group}"


def settings_document(settings: msgspec.Struct) -> str:
    """Settings as JSON, without the URL of the broker: it may hold a password."""
    harmless = msgspec.structs.replace(settings, broker=NO_BROKER)
    return msgspec.json.encode(harmless, enc_hook=str).decode()
