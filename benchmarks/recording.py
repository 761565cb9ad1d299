"""Recording against the bare MCAP library: the same messages, written and read in one process.

Small telemetry, sample batches and stream batches are interleaved as they are in a fleet. Each
way runs once a round, in turn; the best of the rounds counts.
"""

import argparse
import os
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from mcap.reader import make_reader
from mcap.writer import CompressionType, Writer

from driftwell.messages import Ack, Inference, Link, Message, Resources, SampleBatch, StreamBatch
from driftwell.messages import Telemetry as Reading
from driftwell.messages.codec import encode
from driftwell.messages.images import Pixels, pack_images
from driftwell.messages.samples import pack_columns
from driftwell.messages.stream import pack_stream_columns
from driftwell.messages.topics import Kind, device_topic
from driftwell.recording.form import MAX_MESSAGE, RecordedMessage, message_form
from driftwell.recording.reader import Recording, address_of
from driftwell.recording.writer import RecordingWriter

CHUNK_BYTES = 1_000_000
START_NS = 1_800_000_000 * 10**9
SESSION, MODEL = "0" * 16, "0" * 64
DEVICES = 8
SMALL, SAMPLES, STREAM = 4, 2, 1  # in one turn: telemetry and an ack, samples, stream
SMALL_BYTES = 1000
SAMPLE_IMAGES, STREAM_IMAGES = 15, 73  # about 40 kB and 190 kB, packed


@dataclass(frozen=True)
class Figure:
    seconds: float
    messages: int
    megabytes: float

    @property
    def row(self) -> str:
        return f"{self.messages / self.seconds:,.0f} | {self.megabytes / self.seconds:.0f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--turns", type=int, default=400)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--small", action="store_true", help="telemetry and acks only")
    wishes = parser.parse_args()
    messages = make_messages(wishes.turns, np.random.default_rng(wishes.seed))
    if wishes.small:
        messages = [one for one in messages if len(one.payload) < SMALL_BYTES]
    megabytes = sum(len(one.payload) for one in messages) / 1e6
    print(f"{len(messages)} messages, {megabytes:.0f} MB, seed {wishes.seed}")
    for kind in (Kind.TELEMETRY, Kind.ACK, Kind.SAMPLES, Kind.STREAM):
        sizes = [len(one.payload) for one in messages if one.topic.endswith(f"/{kind}")]
        if sizes:
            print(f"{kind}: {len(sizes)} of {np.mean(sizes):,.0f} bytes")
    print()
    with tempfile.TemporaryDirectory(prefix="driftwell-recording-") as folder:
        best = measure(Path(folder), messages, megabytes, wishes.rounds)
    for action in ("write", "read"):
        bare = best[f"{action}, mcap alone"].seconds
        print(f"| {action} | messages/s | MB/s | of mcap alone |")
        print("| --- | ---: | ---: | ---: |")
        for name, figure in best.items():
            if name.startswith(action):
                print(f"| {name.split(', ')[1]} | {figure.row} | {bare / figure.seconds:.2f} |")
        print()


def measure(
    folder: Path, messages: list[RecordedMessage], megabytes: float, rounds: int
) -> dict[str, Figure]:
    bare, plain, viewed = (folder / f"{name}.mcap" for name in ("bare", "plain", "viewed"))
    ways: dict[str, Callable[[], int]] = {
        "write, mcap alone": lambda: write_bare(bare, messages),
        "write, driftwell without views": lambda: write_ours(plain, messages, views=False),
        "write, driftwell with views": lambda: write_ours(viewed, messages, views=True),
        "read, mcap alone": lambda: read_bare(bare),
        "read, driftwell without views": lambda: read_ours(plain),
        "read, driftwell with views": lambda: read_ours(viewed),
    }
    best: dict[str, Figure] = {}
    for _ in range(rounds):
        for name, way in ways.items():
            os.sync()  # what the way before left to the disk is not this one's cost
            start = time.perf_counter()
            count = way()
            seconds = time.perf_counter() - start
            if count != len(messages):
                raise SystemExit(f"{name}: {count} messages instead of {len(messages)}")
            if name not in best or seconds < best[name].seconds:
                best[name] = Figure(seconds, count, megabytes)
    return best


def write_bare(path: Path, messages: list[RecordedMessage]) -> int:
    channels: dict[str, int] = {}
    with path.open("wb") as file:
        writer = Writer(file, chunk_size=CHUNK_BYTES, compression=CompressionType.ZSTD)
        writer.start()
        for one in messages:
            channel = channels.get(one.topic)
            if channel is None:
                address = address_of(one.topic)
                form = message_form(address.kind if address else None)
                schema = writer.register_schema(form.schema_name, "jsonschema", form.schema)
                channel = writer.register_channel(one.topic, form.encoding, schema)
                channels[one.topic] = channel
            writer.add_message(channel, one.received_ns, one.payload, one.sent_ns)
        writer.finish()
        file.flush()
        os.fsync(file.fileno())
    return len(messages)


def write_ours(path: Path, messages: list[RecordedMessage], *, views: bool) -> int:
    with RecordingWriter(
        path, software="benchmark", clock_s=time.monotonic, chunk_bytes=CHUNK_BYTES, views=views,
        overwrite=True,
    ) as writer:  # fmt: skip
        for one in messages:
            writer.write(one)
    return writer.messages


def read_bare(path: Path) -> int:
    with path.open("rb") as file:
        return sum(1 for _ in make_reader(file).iter_messages(log_time_order=False))


def read_ours(path: Path) -> int:
    with Recording(path) as recording:
        return sum(1 for _ in recording.messages())


def make_messages(turns: int, generator: np.random.Generator) -> list[RecordedMessage]:
    """What `DEVICES` devices say in so many turns: telemetry, samples and stream, interleaved."""
    made: list[RecordedMessage] = []
    for turn in range(turns):
        device = f"cam-{turn % DEVICES}"
        said: list[tuple[Kind, Message]] = [
            *((Kind.TELEMETRY, reading(device, turn)) for _ in range(SMALL)),
            *((Kind.ACK, answer(device, turn)) for _ in range(SMALL)),
            *((Kind.SAMPLES, samples(device, turn, generator)) for _ in range(SAMPLES)),
            *((Kind.STREAM, stream(device, turn, generator)) for _ in range(STREAM)),
        ]
        generator.shuffle(said)  # type: ignore[arg-type]
        for kind, message in said:
            now_ns = START_NS + len(made) * 10**6
            payload = encode(message, limit_bytes=MAX_MESSAGE)
            topic = device_topic("home", device, kind)
            made.append(RecordedMessage(topic, payload, now_ns, now_ns - 1000))
    return made


def pictures(count: int, generator: np.random.Generator) -> Pixels:
    """Soft shapes with some noise, uint8 (count, 32, 32, 3): they pack as photographs do."""
    coarse = generator.uniform(0, 255, (count, 4, 4, 3))
    soft = np.repeat(np.repeat(coarse, 8, axis=1), 8, axis=2)
    noisy = soft + generator.normal(0, 12, soft.shape)
    return np.asarray(np.clip(noisy, 0, 255), dtype=np.uint8)


def reading(device: str, seq: int) -> Reading:
    return Reading(
        device=device, session=SESSION, seq=seq, clock_ns=START_NS, model=MODEL,
        resources=Resources(
            cpu_percent=12.5, memory_used_bytes=2**30, memory_total_bytes=2**32,
            process_memory_bytes=2**28, disk_free_bytes=2**34, temperature_celsius=51.0,
        ),
        inference=Inference(
            batches=seq, latency_ms_p50=8.0, latency_ms_p99=12.0, entropy_mean_nats=0.25,
            entropy_max_nats=0.9, version=seq // 10,
        ),
        link=Link(bytes_up=seq * 1000, bytes_down=seq * 100, connects=1, publish_ms_p50=3.0),
        counters={"verdict:selected": seq, "verdict:too-certain": 3 * seq},
    )  # fmt: skip


def answer(device: str, seq: int) -> Ack:
    return Ack(
        device=device, session=SESSION, seq=seq, clock_ns=START_NS, model=MODEL,
        of_session=SESSION, stored_seq=seq, settled_seq=seq, version=seq // 10,
    )  # fmt: skip


def samples(device: str, seq: int, generator: np.random.Generator) -> SampleBatch:
    index = np.arange(SAMPLE_IMAGES, dtype=np.uint64)
    entropy = generator.uniform(0, 1, SAMPLE_IMAGES).astype(np.float32)
    return SampleBatch(
        device=device, session=SESSION, seq=seq, clock_ns=START_NS, model=MODEL, oldest_seq=1,
        cohort=device, images=pack_images(pictures(SAMPLE_IMAGES, generator)),
        columns=pack_columns(index, entropy, np.zeros(SAMPLE_IMAGES, np.uint16)),
    )  # fmt: skip


def stream(device: str, seq: int, generator: np.random.Generator) -> StreamBatch:
    answers = np.zeros(STREAM_IMAGES, np.uint16)
    return StreamBatch(
        device=device, session=SESSION, seq=seq, clock_ns=START_NS, model=MODEL, cohort=device,
        version=1, images=pack_images(pictures(STREAM_IMAGES, generator)),
        columns=pack_stream_columns(
            np.arange(STREAM_IMAGES, dtype=np.uint64), answers,
            generator.uniform(0, 1, STREAM_IMAGES).astype(np.float32),
            np.zeros(STREAM_IMAGES, np.uint8), answers,
        ),
    )  # fmt: skip


if __name__ == "__main__":
    main()
