"""Write the golden recording: `python -m tests.golden.recording.write`.

Run it from the repository root. What is there already is never changed: only the digests of
this torch build are added to `digests.json`, and only if it does not have them. They are of
a replay as a user starts it, a process with portable arithmetic.

Three devices: `cam-1` alone, `cam-2` and `cam-3` with a state in common, called `yard`. The
recorder's clock goes back once. The bundles stand beside the recording, for their weights are
drawn by torch and need not be the same in every build.
"""

import json
import os
import platform
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final, Literal

import msgspec
import torch
from tests import tiny

from driftwell.cloud.settings import CloudSettings, MethodSettings, method_document
from driftwell.messages import Event, Inference, Link, Message, Resources, State, Telemetry, encode
from driftwell.messages.codec import TYPE_OF_KIND
from driftwell.messages.topics import device_topic
from driftwell.models.bundle import Bundle, open_bundle
from driftwell.recording.documents import cloud_document, settings_document
from driftwell.recording.form import RecordedMessage
from driftwell.recording.writer import RecordingWriter

HERE: Final = Path(__file__).parent
ROOT: Final = HERE.parents[2]
RECORDING: Final = HERE / "golden.mcap"
DIGESTS: Final = HERE / "digests.json"
GROUP: Final = "golden"
COHORTS: Final = {"cam-1": "cam-1", "cam-2": "yard", "cam-3": "yard"}
SESSIONS: Final = {device: f"{number:016x}" for number, device in enumerate(COHORTS, 1)}
ROUNDS: Final = 12
IMAGES: Final = 11  # a batch; what is left of a step at the end is learned from, or expires
ROUND_NS: Final = 5 * 10**9
METHOD: Final = {
    "policy": {"batch": 16, "minimum_batch": 8},
    "replay": {"capacity": 200, "minimum": 32, "batch": 16},
}
SEED: Final = 7


def build_name() -> str:
    """Of this torch build and machine, as `digests.json` calls it."""
    return f"{torch.__version__.split('+')[0]} {platform.machine().lower()}"


def replay_command(*options: str) -> tuple[str, ...]:
    """The golden recording into a cloud, as a user would start it."""
    return (
        sys.executable, "-m", "driftwell.tools.cli", "replay", str(RECORDING), "--into", "cloud",
        "--edge", str(HERE / "edge"), "--foundation", str(HERE / "foundation"), "--digests",
        *options,
    )  # fmt: skip


def replay_environment() -> dict[str, str]:
    """For its process: where the tiny models are, and no wishes of whoever runs this."""
    ours = ("DRIFTWELL_", "ATEN_", "ONEDNN_", "MKL_")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
    return {**kept, "PYTHONPATH": str(ROOT)}


def write_recording(path: Path, edge: Bundle, foundation: Bundle) -> None:
    """Write the recording."""
    method = {**method_document("cema"), **METHOD}
    settings = CloudSettings(
        edge=edge.path.relative_to(HERE),
        foundation=foundation.path.relative_to(HERE),
        group=GROUP,
        method=msgspec.convert(method, MethodSettings),
        seed=SEED,
    )
    now_ns = tiny.NOW_NS
    with RecordingWriter(path, software="golden", clock_s=lambda: 0.0) as writer:
        writer.add_document(cloud_document(settings.group), settings_document(settings))
        for number, (wait_ns, message) in enumerate(_messages(edge.digest)):
            now_ns += wait_ns
            stepped_back_ns = 2 * 10**9 if number == STEPS_BACK_AT else 0
            writer.write(_recorded(message, now_ns - stepped_back_ns))


STEPS_BACK_AT: Final = 40


def _recorded(message: Message, received_ns: int) -> RecordedMessage:
    kind = next(kind for kind, sort in TYPE_OF_KIND.items() if isinstance(message, sort))
    topic = device_topic(GROUP, message.device, kind)
    return RecordedMessage(topic, encode(message), received_ns, message.clock_ns)


def _messages(model: str) -> Iterator[tuple[int, Message]]:
    """Nanoseconds since the message before, and the message."""
    for device in COHORTS:
        yield 10**8, _state(device, model, "ready", 1, last_seq=0)
    for seq in range(1, ROUNDS + 1):
        yield ROUND_NS, _telemetry("cam-1", model, seq)
        for number, (device, cohort) in enumerate(COHORTS.items()):
            yield (
                10**8,
                tiny.make_batch(
                    tiny.make_images(IMAGES, seed=100 * number + seq), model=model, device=device,
                    cohort=cohort, seq=seq, session=SESSIONS[device], oldest_seq=seq,
                    clock_ns=tiny.NOW_NS + seq * ROUND_NS,
                ),
            )  # fmt: skip
        if seq % 4 == 0:
            yield 10**7, _applied("cam-2", model, seq // 4)
    for device in COHORTS:
        yield 10**8, _state(device, model, "stopped", 2, last_seq=ROUNDS)


def _state(
    device: str, model: str, status: Literal["ready", "stopped"], seq: int, *, last_seq: int
) -> State:
    return State(
        device=device, session=SESSIONS[device], seq=seq, clock_ns=tiny.NOW_NS, model=model,
        status=status, cohort=COHORTS[device], version=0, result="0" * 64, last_seq=last_seq,
        capabilities=("torch", "head"), software="golden",
    )  # fmt: skip


def _telemetry(device: str, model: str, seq: int) -> Telemetry:
    return Telemetry(
        device=device, session=SESSIONS[device], seq=seq, clock_ns=tiny.NOW_NS, model=model,
        resources=Resources(
            cpu_percent=10.0, memory_used_bytes=2**28, memory_total_bytes=2**31,
            process_memory_bytes=2**27, disk_free_bytes=2**33,
        ),
        inference=Inference(batches=seq, entropy_max_nats=0.9, version=0),
        link=Link(bytes_up=1000 * seq, bytes_down=100 * seq, connects=1),
        counters={"seen": 64 * seq},
    )  # fmt: skip


def _applied(device: str, model: str, version: int) -> Event:
    return Event(
        device=device, session=SESSIONS[device], seq=version, clock_ns=tiny.NOW_NS, model=model,
        event="applied", version=version, lag_s=1.0,
    )  # fmt: skip


def _bundle(name: str) -> Bundle:
    if (HERE / name).exists():
        return open_bundle(HERE / name)
    return tiny.make_bundle(HERE, name)


def main() -> None:
    """Write what is not there yet."""
    edge, foundation = _bundle("edge"), _bundle("foundation")
    if not RECORDING.exists():
        write_recording(RECORDING, edge, foundation)
        sys.stdout.write(f"wrote {RECORDING.name}, {RECORDING.stat().st_size} bytes\n")
    known = json.loads(DIGESTS.read_text()) if DIGESTS.exists() else {}
    if build_name() in known:
        return
    made = subprocess.run(
        replay_command(), check=True, capture_output=True, text=True, env=replay_environment()
    )
    known[build_name()] = made.stdout.split()
    DIGESTS.write_text(json.dumps(known, indent=2) + "\n")
    sys.stdout.write(f"wrote the digests of {build_name()}\n")


if __name__ == "__main__":
    main()
