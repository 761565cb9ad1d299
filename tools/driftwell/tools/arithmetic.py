"""Sums that come out the same on every machine of one torch build.

A processor with wider vectors adds in another order, and floating point sums differ in
their last bits. Where versions must be the same bits again (replays, and the clouds whose
work they repeat), torch and its libraries are held to what every x86-64 server of the last
ten years can do. The libraries read these variables once, so this runs before torch is imported.
"""

import platform
from collections.abc import MutableMapping
from types import MappingProxyType
from typing import Final

from driftwell.messages.errors import SettingsError

CHOICE: Final = "DRIFTWELL_ARITHMETIC"
PORTABLE: Final = MappingProxyType(
    {
        "ATEN_CPU_CAPABILITY": "avx2",  # torch's own loops
        "ONEDNN_MAX_CPU_ISA": "AVX2",  # convolutions
        "MKL_CBWR": "COMPATIBLE",  # matrix products
    }
)


def choose_arithmetic(environment: MutableMapping[str, str], *, default: str) -> None:
    """Set the variables, unless the user chose `native` or set them already.

    Args:
        environment: Of this process; programs it starts inherit the choice.
        default: `portable` or `native`, where `DRIFTWELL_ARITHMETIC` says nothing.

    Raises:
        SettingsError: if `DRIFTWELL_ARITHMETIC` is neither.
    """
    choice = environment.setdefault(CHOICE, default)
    if choice not in {"portable", "native"}:
        raise SettingsError(f"{CHOICE}={choice} is not understood; use portable or native")
    if choice == "portable" and platform.machine().lower() in {"x86_64", "amd64"}:
        for name, value in PORTABLE.items():
            environment.setdefault(name, value)
