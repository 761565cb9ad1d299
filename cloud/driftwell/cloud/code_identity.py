"""Which code made a version: a digest of the sources that decide its bits.

The release alone does not say it: a checkout changes between two releases. What is read are
the files the program itself runs from, so a wheel and its checkout have the same digest.
"""

import hashlib
import importlib.metadata
from collections.abc import Iterator, Mapping
from importlib import resources
from importlib.resources.abc import Traversable
from typing import Final

import torch

ROOMS: Final = ("driftwell.cloud", "driftwell.messages", "driftwell.models")
"""Where the bits of a version are decided."""
DIGITS: Final = 8
MAX_SOFTWARE: Final = 48
"""Characters a version's provenance has for it."""


def software_name() -> str:
    """Name release, code and torch build, such as `driftwell 0.1.0 9f3cab12 torch 2.13.0`."""
    release = importlib.metadata.version("driftwell")
    return f"driftwell {release} {code_digest()} torch {torch.__version__}"[:MAX_SOFTWARE]


def code_digest() -> str:
    """The digest of the code this program runs."""
    return digest_sources({room: resources.files(room) for room in ROOMS})


def digest_sources(rooms: Mapping[str, Traversable]) -> str:
    """The first digits of a SHA-256 over names and contents of all source files.

    Args:
        rooms: Folders by the names of their packages.
    """
    state = hashlib.sha256()
    for room in sorted(rooms):
        for name, content in sorted(_sources(rooms[room], room)):
            state.update(f"{name}\0{len(content)}\0".encode())
            state.update(content)
    return state.hexdigest()[:DIGITS]


def _sources(folder: Traversable, name: str) -> Iterator[tuple[str, bytes]]:
    for entry in folder.iterdir():
        inside = f"{name}/{entry.name}"
        if entry.is_dir():
            yield from _sources(entry, inside)
        elif entry.name.endswith(".py"):
            yield inside, entry.read_bytes().replace(b"\r\n", b"\n")
