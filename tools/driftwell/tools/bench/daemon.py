"""A daemon of the bench: the program the command line runs, with its summary kept as JSON.

python -m driftwell.tools.bench.daemon edge|cloud SETTINGS.json SUMMARY.json
"""

import asyncio
import sys
from pathlib import Path

import msgspec

from driftwell.cloud.settings import CloudSettings
from driftwell.edge.settings import EdgeSettings
from driftwell.tools.cli.logs import configure_logs
from driftwell.tools.configuration import read_settings
from driftwell.tools.programs import cloud_program, edge_program


def main(role: str, config: Path, summary: Path) -> None:
    """Run the daemon to its end."""
    configure_logs("info", as_json=False)
    document = msgspec.json.decode(config.read_bytes())
    if role == "edge":
        result: object = asyncio.run(edge_program(read_settings(EdgeSettings, defaults=document)))
    else:
        result = asyncio.run(cloud_program(read_settings(CloudSettings, defaults=document)))
    summary.write_bytes(msgspec.json.encode(result))


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]))
