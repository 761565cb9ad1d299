"""`driftwell model` on a real ledger: what it prints, what it refuses, what it leaves alone."""

import json
import sqlite3
from contextlib import closing
from pathlib import Path
from shutil import copytree

import numpy as np
import pytest
from tests import tiny
from tests.unit.cloud.histories import STREAM, Cloud, make_cloud, pictures, running
from typer.testing import CliRunner

from driftwell.cloud.code_identity import software_name
from driftwell.cloud.ledger import DATABASE
from driftwell.cloud.registry import is_waiting, next_revert
from driftwell.messages.codec import encode
from driftwell.messages.errors import DriftwellError, RecordingError, SettingsError
from driftwell.recording.form import MAX_MESSAGE, RecordedMessage
from driftwell.recording.writer import RecordingWriter
from driftwell.tools.cli.model import app
from driftwell.tools.lineage.probe import read_probe, spread
from driftwell.tools.lineage.reverts import ask, is_running, wait_for_answer

IMAGES = pictures(120, seed=5)
LABELS = np.arange(120, dtype=np.int64) % 4


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Cloud:
    """A cloud with four versions, to look at."""
    cloud = make_cloud(tmp_path_factory.mktemp("kept"))
    cloud.learn(range(1, 5))
    cloud.record(cloud.folder / "site.mcap", IMAGES, LABELS)
    return cloud


@pytest.fixture
def cloud(kept: Cloud, tmp_path: Path) -> Cloud:
    """A copy, to change."""
    copytree(kept.state, tmp_path / "cloud")
    return Cloud(tmp_path, kept.edge, kept.foundation)


def model(*arguments: str | Path | int) -> str:
    result = CliRunner().invoke(app, list(map(str, arguments)))
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == 0, result.output
    return result.output


def test_the_log_has_every_version(kept: Cloud) -> None:
    """Newest first, for people and for programs."""
    table = model("log", "--state", kept.state)
    document = json.loads(model("log", "--state", kept.state, "--format", "json"))

    assert [one["version"] for one in document] == [4, 3, 2, 1]
    assert [one["trained_samples"] for one in document] == [64, 48, 32, 16]
    assert document[0]["devices"] == {"cam-1": 1}
    assert document[0]["parent"] == document[1]["result"]
    rows = [line.split() for line in table.splitlines() if line.strip().startswith("cam-1")]
    assert [row[:3] for row in rows] == [
        ["cam-1", str(one["version"]), one["result"][:12]] for one in document
    ]


def test_show_says_what_made_a_version(kept: Cloud) -> None:
    """Batches, devices, configuration, seed, code, size and signature."""
    shown = model("show", 3, "--state", kept.state)

    for text in (
        "cam-1 (1 batch)", "cam-1/0123456789abcdef/3\n", "method.policy.batch = 16", "seed = 0",
        f"foundation = {kept.foundation.digest}", software_name(), "bytes of float16 in",
        "fits the key", "48 since the source state",
    ):  # fmt: skip
        assert text in shown


def test_an_altered_version_is_shown_as_such(cloud: Cloud) -> None:
    """Its signature does not fit; without the key that is said, and no key is made."""
    with closing(sqlite3.connect(cloud.state / DATABASE)) as database, database:
        database.execute("UPDATE versions SET signature = zeroblob(64) WHERE version = 2")

    assert "DOES NOT FIT" in model("show", 2, "--state", cloud.state)
    (cloud.state / "signing.key").unlink()
    assert "not checked" in model("show", 2, "--state", cloud.state)
    assert not (cloud.state / "signing.key").exists()


def test_diff_says_what_moved_and_what_changed(kept: Cloud) -> None:
    """Between two versions and from the source; a version and itself differ in nothing."""
    edge, site = kept.edge.path, f"mcap:{kept.folder / 'site.mcap'}"
    whole = model("diff", 0, 4, "--state", kept.state, "--edge", edge, "--probe", site)
    short = model("diff", 1, 4, "--state", kept.state, "--edge", edge, "--top", 2)
    same = model("diff", 4, 4, "--state", kept.state, "--edge", edge, "--probe", site)

    assert whole.startswith("8 of 8 arrays moved")
    assert "bn2.running_var" in whole
    for text in ("of 120 predictions changed", "mean entropy", "accuracy", " -> "):
        assert text in whole
    assert "and 6 more" in short
    assert same.startswith("0 of 8 arrays moved\n0 of 120 predictions changed (0.0 %)\n")


def test_what_is_not_there_is_named(kept: Cloud, tmp_path: Path) -> None:
    """Wrong version, cohort, folder, bundle: the error says what there is instead."""
    state, edge = ("--state", kept.state), ("--edge", kept.edge.path)
    wrong: list[tuple[tuple[str | Path | int, ...], str]] = [
        (("show", 9, *state), "has no version 9; it has: 1 to 4"),
        (("show", 1, *state, "--cohort", "x"), "no cohort 'x'; there is: cam-1"),
        (("log", "--state", tmp_path), "has no cloud.sqlite"),
        (("log", *state, "--format", "xml"), "use table or json"),
        (("diff", 0, 1, *state, "--edge", kept.foundation.path), "give the bundle the cloud was"),
        (("diff", 0, 1, *state, *edge, "--probe", "x"), "use npz:FILE or mcap:FILE"),
        (("revert", *state, "--to", 5), "has no version 5"),
        (("bisect", *state, *edge, "--test", "drop<=2"), "needs --recording"),
        (("bisect", *state, *edge, "--test", "command:true", "--good", 7), "has no version 7"),
        (
            ("bisect", *state, *edge, "--test", "command:true", "--good", 3, "--bad", 2),
            "--bad 2 must come after --good 3",
        ),
        (("bisect", *state, *edge, "--test", "command:sh -c 'exit 125'"), "ended with 125"),
        (("bisect", *state, *edge, "--test", "command:/no/such"), "cannot be run"),
    ]
    for arguments, text in wrong:
        with pytest.raises(SettingsError) as caught:
            model(*arguments)
        assert text in str(caught.value)


def test_several_cohorts_must_be_told_apart(cloud: Cloud) -> None:
    """The log lists all; what is about one asks which."""
    with closing(sqlite3.connect(cloud.state / DATABASE)) as database, database:
        database.execute("INSERT INTO versions SELECT 'yard', version, result, manifest, "
                         "signature, configuration FROM versions WHERE version = 1")  # fmt: skip

    with pytest.raises(SettingsError, match="name one with --cohort: cam-1, yard"):
        model("show", 1, "--state", cloud.state)
    assert "version 1" not in model("log", "--state", cloud.state)
    assert "version        1 of" in model("show", 1, "--state", cloud.state, "--cohort", "yard")


@pytest.mark.parametrize("damage", ["file", "manifest", "empty"])
def test_a_damaged_ledger_is_one_line(cloud: Cloud, damage: str) -> None:
    """No database, no manifest, no tables: an error of ours that says what to do."""
    file = cloud.state / DATABASE
    if damage == "manifest":
        with closing(sqlite3.connect(file)) as database, database:
            database.execute("UPDATE versions SET manifest = x'ff' WHERE version = 3")
    else:
        file.write_bytes(b"" if damage == "empty" else b"no database" * 500)

    with pytest.raises(SettingsError, match="backup"):
        model("log", "--state", cloud.state)


def test_bisect_has_nothing_to_find_where_nothing_is_bad(kept: Cloud) -> None:
    """The newest version passes: one evaluation, and no culprit."""
    said = model("bisect", "--state", kept.state, "--edge", kept.edge.path,
                 "--test", "command:true")  # fmt: skip

    assert said.splitlines()[1:] == [
        "1. version 4: exit code 0: good", "nothing to find: version 4 passes the test",
    ]  # fmt: skip


def test_a_request_waits_for_a_cloud(cloud: Cloud) -> None:
    """Without one it stays; a running one that does not answer is told from none."""
    request = ask(cloud.state, "cam-1", 2)

    def wait() -> tuple[bool, int | None]:
        now = tiny.Ticks()
        answer = wait_for_answer(
            cloud.state, request, "cam-1", 2, patience_s=1.0, monotonic_s=now,
            sleep=lambda s: setattr(now, "now_s", now.now_s + s),
        )  # fmt: skip
        return answer.is_waiting, answer.version

    assert not is_running(cloud.state)
    assert wait() == (True, None)
    with running(cloud) as virtual:
        assert is_running(cloud.state)
        assert wait() == (True, None)
        cloud.take(virtual, 5)
        assert wait() == (False, 5)
    assert not is_running(cloud.state)
    with closing(sqlite3.connect(cloud.state / DATABASE)) as database:
        assert (next_revert(database), is_waiting(database, request)) == (None, False)


def probe_images(cloud: Cloud, spec: str, **wishes: object) -> tuple[int, object]:
    probe = read_probe(spec, cloud.edge.manifest, **{"limit": 50, **wishes})  # type: ignore[arg-type]
    return len(probe.images), None if probe.labels is None else probe.labels.tolist()


def test_a_probe_is_spread_over_the_recording(kept: Cloud, tmp_path: Path) -> None:
    """Images and labels are those at even distances, from a recording as from an array."""
    np.savez(tmp_path / "p.npz", x=IMAGES, y=LABELS)
    for spec in (f"mcap:{kept.folder / 'site.mcap'}", f"npz:{tmp_path / 'p.npz'}"):
        probe = read_probe(spec, kept.edge.manifest, limit=7)
        chosen = spread(np.arange(120), 7)

        assert chosen.tolist() == [0, 20, 40, 60, 79, 99, 119]
        assert np.array_equal(probe.images, IMAGES[chosen])
        assert probe.labels is not None
        assert np.array_equal(probe.labels, LABELS[chosen])


def test_a_probe_takes_the_cohorts_own_streams(kept: Cloud, tmp_path: Path) -> None:
    """And all streams where the cohort has none; only what has a label where labels are needed."""
    parts = [("yard", None, 0), ("cam-1", LABELS[:5].astype(np.uint16), 5), ("cam-1", None, 10)]
    with RecordingWriter(tmp_path / "a.mcap", software="test", clock_s=lambda: 0.0) as writer:
        for cohort, labels, first in parts:
            batch = kept.stream(IMAGES[first : first + 5], first, labels, cohort)
            payload = encode(batch, limit_bytes=MAX_MESSAGE)
            writer.write(RecordedMessage(STREAM, payload, first, first))
    spec = f"mcap:{tmp_path / 'a.mcap'}"

    assert probe_images(kept, spec) == (15, [-1] * 5 + [0, 1, 2, 3, 0] + [-1] * 5)
    assert probe_images(kept, spec, cohort="cam-1") == (10, [0, 1, 2, 3, 0] + [-1] * 5)
    assert probe_images(kept, spec, cohort="yard") == (5, None)
    assert probe_images(kept, spec, cohort="other", labelled=True) == (5, [0, 1, 2, 3, 0])
    for wishes, place, text in (
        ({"cohort": "yard", "labelled": True}, spec, "has no labels"),
        ({}, f"{spec}#cam-7", "holds no raw stream of cam-7"),
    ):
        with pytest.raises(DriftwellError, match=text):
            probe_images(kept, place, **wishes)


def test_a_probe_is_of_one_device(kept: Cloud, tmp_path: Path) -> None:
    """Where two groups have a device of one name, the error asks which; copies count once."""
    payload = encode(kept.stream(IMAGES[:5], 0, None), limit_bytes=MAX_MESSAGE)
    path = tmp_path / "a.mcap"
    with RecordingWriter(path, software="test", clock_s=lambda: 0.0) as writer:
        for topic in (STREAM, STREAM, STREAM.replace("default", "shed")):
            writer.write(RecordedMessage(topic, payload, 1, 1))

    with pytest.raises(RecordingError, match=r"default/cam-1, shed/cam-1: choose one"):
        probe_images(kept, f"mcap:{path}#cam-1")
    assert probe_images(kept, f"mcap:{path}#shed/cam-1") == (5, None)
    assert probe_images(kept, f"mcap:{path}") == (10, None)


def test_a_damaged_stream_is_named(kept: Cloud, tmp_path: Path) -> None:
    """A message that is no stream batch, or holds other images, is an error with the file."""
    batch = kept.stream(IMAGES[:4], 0, None)
    other = kept.stream(np.zeros((2, 4, 4, 1), np.uint8), 0, None)
    whole = [encode(one, limit_bytes=MAX_MESSAGE) for one in (batch, other)]
    for name, payload, text in (
        ("cut", whole[0][:-9], "a message of .* cannot be used"),
        ("small", whole[1], "use a recording of this model"),
    ):
        path = tmp_path / f"{name}.mcap"
        with RecordingWriter(path, software="test", clock_s=lambda: 0.0) as writer:
            writer.write(RecordedMessage(STREAM, payload, 1, 1))
        with pytest.raises((RecordingError, SettingsError), match=text):
            probe_images(kept, f"mcap:{path}")
