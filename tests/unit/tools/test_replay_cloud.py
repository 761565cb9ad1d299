"""Into a cloud, as a library: settings, what is refused, and what stops a replay at once."""

import json
import re
from collections.abc import Callable, Mapping
from pathlib import Path

import msgspec
import pytest
from tests import tiny
from tests.golden.recording.write import HERE, RECORDING
from tests.unit.tools import recordings

from driftwell.cloud.settings import CloudSettings, MethodSettings, method_document
from driftwell.messages.errors import RecordingError, SettingsError
from driftwell.messages.topics import Kind, device_topic
from driftwell.models.bundle import Bundle
from driftwell.recording.form import RecordedMessage
from driftwell.recording.reader import Recording
from driftwell.tools.replay.cloud import Clock, open_cloud_replay, replay_into_cloud
from driftwell.tools.replay.cloud_settings import repeated_settings
from driftwell.tools.replay.outcome import CloudReplay
from driftwell.tools.replay.plan import Wishes

BUNDLES = {"edge": HERE / "edge", "foundation": HERE / "foundation"}
SLEEPLESS = Clock(monotonic_s=lambda: 0.0, sleep=lambda _: None)


@pytest.fixture(scope="module")
def documents() -> dict[str, str]:
    with Recording(RECORDING) as recording:
        return recording.documents()


@pytest.fixture(scope="module")
def bundles(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Bundle]:
    folder = tmp_path_factory.mktemp("bundles")
    return {name: tiny.make_bundle(folder, name) for name in ("edge", "foundation")}


def settings(
    documents: dict[str, str], *assignments: str, method: str | None = None,
    file: Path | None = None, **flags: object,
) -> CloudSettings:  # fmt: skip
    return repeated_settings(
        documents, group="golden", method=method, file=file, assignments=assignments,
        flags={**BUNDLES, **flags},
    )  # fmt: skip


def replay(
    path: Path, bundles: Mapping[str, Path] = BUNDLES, wishes: Wishes | None = None,
    state: Path | None = None, clock: Clock = SLEEPLESS, progress: Callable[[int], object] = id,
) -> CloudReplay:  # fmt: skip
    outcome = CloudReplay()
    with open_cloud_replay(
        path, wishes or Wishes(), state=state, method=None, file=None, assignments=(),
        flags=bundles,
    ) as ready:  # fmt: skip
        replay_into_cloud(ready, threads=1, clock=clock, progress=progress, outcome=outcome)
    return outcome


def test_the_recorded_settings_are_the_defaults(documents: dict[str, str]) -> None:
    """Method, seed and limits are the recording's; where its machine kept things is not."""
    repeated = settings(documents)

    assert repeated.seed == 7
    assert repeated.method.policy.batch == 16
    assert (repeated.group, repeated.edge) == ("golden", HERE / "edge")
    assert repeated.state_dir is None


def test_later_wins(documents: dict[str, str], tmp_path: Path) -> None:
    """Over the recording goes the method, then the file, then assignments, then flags."""
    file = tmp_path / "cloud.toml"
    file.write_text("seed = 1\n[method.policy]\nbatch = 64\nminimum_batch = 4\n")

    from_file = settings(documents, file=file)
    assigned = settings(documents, "seed=2", "method.policy.batch=8", file=file)
    flagged = settings(documents, "seed=2", file=file, seed=3)
    another = settings(documents, method="cema")

    assert (from_file.seed, from_file.method.policy.batch) == (1, 64)
    assert (assigned.seed, assigned.method.policy.batch) == (2, 8)
    assert assigned.method.policy.minimum_batch == 4
    assert flagged.seed == 3
    cema = msgspec.convert(method_document("cema"), MethodSettings)
    assert (another.seed, another.method) == (7, cema)


def test_without_recorded_settings() -> None:
    """A recording that says nothing about its cloud is replayed with the defaults."""
    repeated = settings({})

    assert (repeated.seed, repeated.method.name) == (0, "driftwell")


@pytest.mark.parametrize("text", ["", "[1]", '{"seed": "x"}', '{"seed": 1, "method": {"a": 1}}'])
def test_recorded_settings_that_cannot_be_read(text: str) -> None:
    """It is the recording that is blamed, and not the user's flags."""
    with pytest.raises(RecordingError, match="settings:cloud"):
        settings({"settings:cloud:golden": text})


def test_a_wrong_flag_is_the_users(documents: dict[str, str]) -> None:
    """What the user got wrong is his."""
    with pytest.raises(SettingsError, match="did you mean 'seed'"):
        settings(documents, "sed=1")
    with pytest.raises(SettingsError, match="unknown method 'magic'"):
        settings(documents, method="magic")


def test_a_pace_waits_for_recorded_time() -> None:
    """At speed 2 a replay sleeps half of the recorded time, and makes the same versions."""
    slept: list[float] = []
    clock = Clock(monotonic_s=lambda: sum(slept), sleep=slept.append)
    reached: list[int] = []

    paced = replay(RECORDING, wishes=Wishes(speed="2"), clock=clock, progress=reached.append)
    fast = replay(RECORDING)

    assert paced.versions == fast.versions != []
    assert sum(slept) == pytest.approx(paced.recorded_s / 2)
    assert paced.recorded_s == fast.recorded_s > 60
    assert reached == sorted(reached)
    assert len(reached) == paced.messages


def test_clones_learn_the_same(bundles: dict[str, Bundle]) -> None:
    """A device that is played by three makes three cohorts; each sees what the one saw."""
    wishes = Wishes(devices=("cam-1",), clones=3)

    alone = replay(RECORDING, wishes=Wishes(devices=("cam-1",)))
    cloned = replay(RECORDING, wishes=wishes)

    assert {one.cohort for one in cloned.versions} == {f"cam-1-00{n}" for n in (1, 2, 3)}
    assert len(cloned.versions) == 3 * len(alone.versions)
    # Until images are repeated nothing is drawn, and all learn the same.
    assert {one.digest for one in cloned.versions if one.version == 1} == {alone.versions[0].digest}


def test_samples_of_another_model(bundles: dict[str, Bundle], tmp_path: Path) -> None:
    """They stop the replay before anything is learned, with both digests and what to do."""
    batches = [
        recordings.recorded(tiny.make_batch(tiny.make_images(2), model=model, device=device), 1.0)
        for device, model in (("cam-1", bundles["edge"].digest), ("cam-2", "b" * 64))
    ]
    path = recordings.write(tmp_path / "a.mcap", batches)
    folders = {name: bundle.path for name, bundle in bundles.items()}

    with pytest.raises(SettingsError, match="samples of cam-2 are of model bbbbbbbbbbbb"):
        replay(path, folders, state=tmp_path / "state")
    assert list((tmp_path / "state").glob("*")) == []

    assert replay(path, folders, wishes=Wishes(devices=("cam-1",))).messages == 1


def test_what_the_cloud_refuses_is_counted(bundles: dict[str, Bundle], tmp_path: Path) -> None:
    """Damaged, doubled and misplaced messages are told by what was wrong with them."""
    good = tiny.make_batch(tiny.make_images(2), model=bundles["edge"].digest)
    worse = msgspec.structs.replace(good, seq=2, columns=())
    changed = msgspec.structs.replace(good, seq=3, model="b" * 64)
    topic = device_topic("default", "cam-1", Kind.SAMPLES)
    path = recordings.write(
        tmp_path / "a.mcap",
        [
            *(recordings.recorded(batch, 1.0) for batch in (good, good, worse, changed)),
            RecordedMessage(topic, b"\xff", recordings.BEGIN_NS, 0),
            RecordedMessage(topic, b"", recordings.BEGIN_NS, 0),
        ],
    )

    outcome = replay(path, {name: bundle.path for name, bundle in bundles.items()})

    assert outcome.refused == {
        "duplicates": 1, "bad-array": 1, "wrong-model": 1, "malformed": 2
    }  # fmt: skip
    assert outcome.messages == 6
    assert "refused: bad-array 1, duplicates 1, malformed 2, wrong-model 1" in outcome.lines()
    assert json.loads(outcome.as_json())["refused"] == outcome.refused


def test_a_cloud_serves_one_group(tmp_path: Path) -> None:
    """With several groups in the recording, one must be chosen."""
    path = recordings.write(
        tmp_path / "a.mcap",
        [recordings.recorded(recordings.event("cam-1", 1), group=g) for g in ("farm", "plant")],
    )

    with pytest.raises(SettingsError, match=r"farm, plant: choose one with --group"):
        replay(path)
    assert replay(path, wishes=Wishes(group="farm")).messages == 1


def test_a_state_folder_with_something_in_it(tmp_path: Path) -> None:
    """A replay begins at the source state, so it wants a folder that is new or empty."""
    (tmp_path / "cloud.sqlite").touch()

    with pytest.raises(SettingsError, match=re.escape(f"{tmp_path} is not empty")):
        replay(RECORDING, state=tmp_path)
