"""The name of the code that makes versions."""

import re
import shutil
from pathlib import Path

import pytest

from driftwell.cloud.code_identity import (
    MAX_SOFTWARE,
    ROOMS,
    code_digest,
    digest_sources,
    software_name,
)
from driftwell.messages.head import Provenance

ROOT = Path(__file__).resolve().parents[3]


def test_the_name_fits_a_manifest() -> None:
    """Release, eight digits of the code, and torch, in the characters there are."""
    name = software_name()

    assert re.fullmatch(r"driftwell \S+ [0-9a-f]{8} torch \d+\..*", name)
    assert len(name) <= MAX_SOFTWARE
    assert re.search(r"max_length=48", str(Provenance.__annotations__["software"]))


def test_a_very_long_torch_build_is_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    """Devices refuse a manifest with a longer name."""
    monkeypatch.setattr("torch.__version__", "2.13.0+" + "x" * 60)

    assert len(software_name()) == MAX_SOFTWARE


def test_the_digest_is_of_what_decides_the_bits(tmp_path: Path) -> None:
    """A copy of the sources has the same digest; one line more, or another name, another."""
    rooms = [name.removeprefix("driftwell.") for name in ROOMS]
    copies = {f"driftwell.{room}": tmp_path / room for room in rooms}
    for room in rooms:
        shutil.copytree(ROOT / room / "driftwell" / room, tmp_path / room)
    (tmp_path / "cloud" / "notes.txt").write_text("not code")
    digests = [digest_sources(copies)]

    for room in rooms:
        with (tmp_path / room / "__init__.py").open("a") as file:
            file.write("# one more line\n")
        digests.append(digest_sources(copies))
    (tmp_path / "cloud" / "learner.py").rename(tmp_path / "cloud" / "teacher.py")
    digests.append(digest_sources(copies))

    assert digests[0] == code_digest()
    assert len(set(digests)) == 5
