"""The messages of modular models behind the golden files; `fixed_messages.py` takes them in."""

from typing import Any, Final

import msgspec
import numpy as np

from driftwell.messages import (
    Blob,
    Delta,
    Fetch,
    Message,
    ModelLimits,
    Modular,
    ModuleRef,
    ModuleUpdate,
    State,
    SubModel,
    SubModelManifest,
    Telemetry,
    Want,
    digest_arrays,
    digest_bytes,
)
from driftwell.messages.blob import encode_whole

PIECE: Final = {"first.weight": np.array([[1.5, -2.0]], np.float32)}
CONTENT: Final = encode_whole(PIECE)
LIMITS: Final = ModelLimits(memory_bytes=2_000_000, latency_ms=12.5)


def submodel_manifest(*, model: str, clock_ns: int) -> SubModelManifest:
    """Two layers: a module and a bypass, and a module in its fourth version."""
    return SubModelManifest(
        group="plant-2",
        device="cam-7",
        model=model,
        version=3,
        created_ns=clock_ns,
        expires_ns=clock_ns + 86_400 * 10**9,
        layers=(
            (
                ModuleRef(module=2, version=0, piece=digest_arrays(PIECE)),
                ModuleRef(module=15, version=0, piece=digest_arrays({})),
            ),
            (ModuleRef(module=0, version=4, piece=digest_bytes(b"piece")),),
        ),
        costs={"memory_bytes": 1_500_000.0, "latency_ms": 9.25},
        limits={"memory_bytes": 2_000_000.0},
    )


def modular_messages(
    *,
    state: State,
    telemetry: Telemetry,
    update: ModuleUpdate,
    manifest: bytes,
    signature: bytes,
    key: bytes,
    cloud_session: str,
) -> dict[str, Message]:
    """File name to message.

    Args:
        state: A device's, without what is modular; telemetry and update likewise.
        telemetry: See there.
        update: See there.
        manifest: A sub-model's, encoded.
        signature: Over it.
        key: The public key.
        cloud_session: Of who sends what goes down.
    """
    sender: dict[str, Any] = {
        "device": state.device,
        "clock_ns": state.clock_ns,
        "model": state.model,
    }
    delta = Delta(encoding="float16", entries=(1,), values=np.array([0.5, -0.25], "<f2").tobytes())
    modular = Modular(
        submodel=3,
        importance=(np.array([0.5, 0.25, 0.25], "<f4").tobytes(), b""),
        images=640,
        limits=LIMITS,
        held=((1, 0, 5), ()),
    )
    want = Want(layer=0, module=2, piece=digest_arrays(PIECE))
    resumed = Want(
        layer=1, module=0, piece=digest_bytes(b"piece"), have=digest_bytes(b"older"),
        content=digest_bytes(b"content"), offset=65_536,
    )  # fmt: skip
    return {
        "blob": Blob(
            **sender, session=cloud_session, seq=8, piece=digest_arrays(PIECE),
            content=digest_bytes(CONTENT), size_bytes=len(CONTENT), offset=0, data=CONTENT,
        ),
        "fetch": Fetch(
            **sender, session=state.session, seq=4, submodel=3, wants=(want, resumed)
        ),
        "state-modular": msgspec.structs.replace(state, seq=9, model_limits=LIMITS),
        "submodel": SubModel(
            **sender, session=cloud_session, seq=3, manifest=manifest, signature=signature,
            key=key,
        ),
        "telemetry-modular": msgspec.structs.replace(telemetry, seq=9, modular=modular),
        "update-delta": msgspec.structs.replace(update, seq=3, arrays=(), delta=delta),
    }  # fmt: skip
