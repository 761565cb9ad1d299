"""The command line as a user meets it: one line that says what was wrong, and exit code 2."""

import json
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from tests import tiny

ROOT = Path(__file__).resolve().parents[2]


def _driftwell(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "driftwell.tools.cli", *map(str, arguments)],
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
        env={"PYTHONPATH": str(ROOT), "PATH": "", "COLUMNS": "200", "HOME": "/nonexistent"},
    )


@pytest.fixture(scope="module")
def bundles(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with an edge and a foundation bundle."""
    folder = tmp_path_factory.mktemp("bundles")
    tiny.make_bundle(folder, "edge")
    tiny.make_bundle(folder, "foundation")
    return folder


def _fails_with(result: subprocess.CompletedProcess[str], text: str) -> None:
    assert result.returncode == 2, result.stderr
    assert text in result.stderr
    assert "Traceback" not in result.stderr


def test_help_names_every_noun() -> None:
    """`driftwell --help` lists the nouns and where to begin."""
    printed = _driftwell("--help").stdout

    for noun in ("edge", "cloud", "bundle", "broker", "bench", "demo", "books"):
        assert noun in printed
    assert "Begin with: driftwell demo" in printed


@pytest.mark.parametrize(
    "command",
    [
        "edge run",
        "cloud run",
        "bundle create",
        "broker run",
        "bench stream",
        "bench elastic",
        "books",
        "demo",
    ],
)
def test_help_of_a_command_has_an_example(command: str) -> None:
    """Every command's help shows how it is called."""
    assert "Example" in _driftwell(*command.split(), "--help").stdout


def test_help_does_not_import_torch() -> None:
    """Help is quick because nothing heavy is imported for it."""
    code = (
        "import sys, driftwell.tools.cli as cli\n"
        "assert 'torch' not in sys.modules, 'torch was imported'\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_unknown_setting_suggests_the_right_one(bundles: Path, tmp_path: Path) -> None:
    """A misspelt key is an error that names its neighbour."""
    result = _driftwell(
        "edge", "run", "--bundle", bundles / "edge", "--source", "npz:x.npz", "--device", "cam-1",
        "--state", tmp_path, "--set", "filter.e_mx=0.3",
    )  # fmt: skip

    _fails_with(result, "unknown setting 'filter.e_mx'; did you mean 'filter.e_max'?")


def test_unknown_key_in_a_file_is_an_error(tmp_path: Path) -> None:
    """The same holds for configuration files."""
    config = tmp_path / "edge.toml"
    config.write_text("devise = 'cam-1'\n")

    _fails_with(_driftwell("edge", "run", "--config", config), "did you mean 'device'?")


def test_missing_stream(bundles: Path, tmp_path: Path) -> None:
    """A stream that does not exist is named."""
    result = _driftwell(
        "edge", "run", "--bundle", bundles / "edge", "--source", "npz:nowhere.npz",
        "--device", "cam-1", "--state", tmp_path,
    )  # fmt: skip

    _fails_with(result, "stream nowhere.npz does not exist")


def test_missing_bundle(tmp_path: Path) -> None:
    """A bundle that does not exist is named, with the command that makes one."""
    _fails_with(_driftwell("bundle", "show", tmp_path), "driftwell bundle create")


def test_labels_out_of_range(bundles: Path, tmp_path: Path) -> None:
    """A label that is no class stops the bench before it measures anything."""
    stream = tmp_path / "stream.npz"
    np.savez(stream, x=tiny.make_images(8), y=np.full(8, len(tiny.CLASSES)))
    result = _driftwell(
        "bench", "stream", "--edge", bundles / "edge", "--foundation", bundles / "foundation",
        "--stream", stream, "--method", "none",
    )  # fmt: skip

    _fails_with(result, "labels run from 4 to 4, the model has 4 classes")


def test_port_in_use() -> None:
    """A broker whose port is taken says so and what to do."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        result = _driftwell("broker", "run", "--port", port)

    _fails_with(result, port)


def test_metrics_port_in_use(bundles: Path, tmp_path: Path) -> None:
    """A metrics port that is taken is an error before the daemon answers anything."""
    stream = tiny.write_stream(tmp_path / "stream.npz", 8)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        result = _driftwell(
            "edge", "run", "--bundle", bundles / "edge", "--source", f"npz:{stream}",
            "--device", "cam-1", "--state", tmp_path / "state", "--metrics-port", port,
        )  # fmt: skip

    _fails_with(result, f"metrics port {port}")


@pytest.mark.parametrize(
    ("option", "value"), [("--method", "magic"), ("--pace", "rate:-1"), ("--transport", "pigeon")]
)
def test_bench_refuses_what_it_does_not_know(
    option: str, value: str, bundles: Path, tmp_path: Path
) -> None:
    """A wrong choice is answered with the right ones."""
    result = _driftwell(
        "bench", "stream", "--edge", bundles / "edge", "--foundation", bundles / "foundation",
        "--stream", tmp_path / "x.npz", option, value,
    )  # fmt: skip

    _fails_with(result, value)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--data", "mnist"], "--data 'mnist' is not known; use digits, or cifar10-jpeg:FILE.npz"),
        (["--data", "cifar10-jpeg:absent.npz"], "absent.npz"),
        (["--skew", "two"], "--skew 'two' is no number of classes"),
        (["--skew", "11"], "skew 11 is not between 1 and 10 classes"),
        (["--method", "fedprox"], "method 'fedprox' is not known"),
        (["--budgets", "memory=a"], "--budgets 'memory=a' is not understood"),
        (["--budgets", "memory=0"], "shares of a budget: one or more, each above 0"),
        (["--format", "xml"], "--format 'xml' is not known"),
    ],
)
def test_bench_elastic_refuses_what_it_does_not_know(arguments: list[str], message: str) -> None:
    """Before anything is trained."""
    _fails_with(_driftwell("bench", "elastic", *arguments), message)


def test_bench_elastic_prints_json() -> None:
    """One method that needs no training of its own, on data that come with scikit-learn."""
    printed = _driftwell("bench", "elastic", "--method", "none", "--steps", "1", "--format", "json")
    [result] = json.loads(printed.stdout)["results"]

    assert (result["method"], result["skew"], result["seed"]) == ("none", 2, 0)
    assert result["accuracy_run"] > 90
    assert result["bytes_up"] == 0 < result["bytes_down"]
    assert result["budget_violations"] > 0
