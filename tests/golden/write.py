"""Write the golden files of the present schema: `python -m tests.golden.write`.

Run it from the repository root, once, when there is a new schema major or a new message in
`fixed_messages.py`, and commit what it wrote. A file that is already there is never changed:
where the present encoder disagrees with one, nothing at all is written.
"""

import sys
from pathlib import Path
from typing import Final

from tests.golden.fixed_messages import DECODE_ONLY, FIXED

from driftwell.messages import SCHEMA, encode

FOLDER: Final = Path(__file__).parent / f"schema{SCHEMA}"


def write_golden_files(folder: Path) -> list[str]:
    """Write what is not there yet and return its names.

    Raises:
        FileExistsError: if a file is there and holds other bytes.
    """
    wanted = {f"{name}.bin": encode(m) for name, m in FIXED.items() if name not in DECODE_ONLY}
    missing = [name for name in wanted if not (folder / name).exists()]
    for name in wanted.keys() - set(missing):
        if (folder / name).read_bytes() != wanted[name]:
            raise FileExistsError(f"{folder / name} holds other bytes, and golden files stay")
    folder.mkdir(parents=True, exist_ok=True)
    for name in missing:
        (folder / name).write_bytes(wanted[name])
    return missing


if __name__ == "__main__":
    written = write_golden_files(FOLDER)
    sys.stdout.write("".join(f"wrote {FOLDER.name}/{name}\n" for name in written))
