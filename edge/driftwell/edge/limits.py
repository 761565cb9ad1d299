"""Pure. What a modular model may take on a device at present, in the forms it is needed in."""

import tomllib
from collections.abc import Mapping

import msgspec

from driftwell.edge.settings import ModelLimitSettings
from driftwell.messages.errors import SettingsError
from driftwell.messages.state import ModelLimits


def parse_limits(text: str) -> ModelLimitSettings:
    """Read limits from TOML.

    Raises:
        SettingsError: if it is no TOML, a key is unknown, or a value is no limit.
    """
    try:
        return msgspec.convert(tomllib.loads(text), ModelLimitSettings)
    except (ValueError, RecursionError) as error:  # of TOML, of a number too long, or too deep
        raise SettingsError(
            f"{error}; known are memory_bytes, latency_ms and download_bytes"
        ) from error


def limits_message(limits: ModelLimitSettings) -> ModelLimits:
    """The same on the wire."""
    return ModelLimits(
        memory_bytes=msgspec.UNSET if limits.memory_bytes is None else limits.memory_bytes,
        latency_ms=msgspec.UNSET if limits.latency_ms is None else limits.latency_ms,
        download_bytes=msgspec.UNSET if limits.download_bytes is None else limits.download_bytes,
    )


def limit_amounts(limits: ModelLimitSettings) -> Mapping[str, float]:
    """The same by resource, as the manifests of sub-models have their costs."""
    return {
        name: float(value)
        for name, value in msgspec.structs.asdict(limits).items()
        if value is not None
    }
