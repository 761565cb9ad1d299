"""Real programs, killed in the middle with `kill -9` and started again: one fate a sample."""

import asyncio
import json
import re
import signal
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
from tests import tiny
from tests.brokers import eventually
from tests.programs import COMMAND, LIMIT_S, Program, open_broker

pytestmark = pytest.mark.integration

IMAGES = 1500
RATE = 150  # images a second: the stream must outlast the start of a cloud on a busy machine
BALANCE = re.compile(
    r"cam-1: selected (\d+) = trained (\d+) \+ rejected (\d+)[^+]* \+ expired (\d+) "
    r"\+ dropped (\d+)[^+]* \+ under way (\d+)"
)


class Site:
    """An edge and a cloud with their folders, at one broker."""

    def __init__(self, folder: Path, port: int) -> None:
        stream = tiny.write_stream(folder / "stream.npz", IMAGES)
        url = f"mqtt://127.0.0.1:{port}"
        self.edge_state, self.cloud_state = folder / "cam-1", folder / "cloud"
        self.predictions = folder / "predictions.jsonl"
        edge = tiny.make_bundle(folder, "edge").path
        foundation = tiny.make_bundle(folder, "foundation").path
        self.edge = Program(
            folder / "edge.log",
            *(
                "edge",
                "run",
                "--method",
                "cema",
                "--bundle",
                str(edge),
                "--source",
                f"npz:{stream}",
            ),
            *("--device", "cam-1", "--broker", url, "--state", str(self.edge_state)),
            *("--batch", "20", "--pace", f"rate:{RATE}", "--predictions", str(self.predictions)),
            *("--set", "spool.resend_s=0.5", "--set", "filter.e_max=1"),
            *("--set", "upload.gather=30"),  # so that a kill finds samples in memory
        )
        self.cloud = Program(
            folder / "cloud.log",
            *(
                "cloud",
                "run",
                "--method",
                "cema",
                "--foundation",
                str(foundation),
                "--edge",
                str(edge),
            ),
            *("--broker", url, "--state", str(self.cloud_state), "--threads", "1"),
        )

    def trained(self) -> int:
        """Samples trained so far; 0 while there is no ledger."""
        with _read(self.cloud_state / "cloud.sqlite") as query:
            return query("SELECT coalesce(sum(used), 0) FROM batches")

    def answered(self) -> int:
        """Images answered so far."""
        return self.predictions.read_bytes().count(b"\n") if self.predictions.exists() else 0

    def answered_indices(self) -> set[int]:
        lines = self.predictions.read_text().splitlines()
        return {json.loads(line)["index"] for line in lines}

    async def books(self) -> tuple[int, str]:
        """Exit code and text of `driftwell books`."""
        process = await asyncio.create_subprocess_exec(
            *COMMAND, "books", "--edge", str(self.edge_state), "--cloud", str(self.cloud_state),
            stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
        )  # fmt: skip
        output, _ = await process.communicate()
        assert process.returncode is not None
        return process.returncode, output.decode()

    def pending(self) -> int:
        with _read(self.cloud_state / "cloud.sqlite") as query:
            return query("SELECT coalesce(sum(samples - used), 0) FROM batches")

    def doubled(self) -> int:
        """Batches of which more was used than there is, or that are there twice."""
        with _read(self.cloud_state / "cloud.sqlite") as query:
            return query(
                "SELECT count(*) FROM (SELECT 1 FROM batches GROUP BY device, session, seq "
                "HAVING sum(used) > max(samples))"
            )


@contextmanager
def _read(file: Path) -> Iterator[Callable[[str], int]]:
    if not file.exists():
        yield lambda _: 0
        return
    with closing(sqlite3.connect(f"file:{file}?mode=ro", uri=True)) as database:

        def query(sql: str) -> int:
            try:
                return int(database.execute(sql).fetchone()[0])
            except sqlite3.OperationalError:  # the tables are being made
                return 0

        yield query


@pytest.mark.parametrize("victim", ["edge", "cloud", "broker"])
@pytest.mark.parametrize("broker_name", ["embedded", "mosquitto"])
async def test_killed_in_the_middle(tmp_path: Path, broker_name: str, victim: str) -> None:
    """Whoever is killed, the stream is answered whole and each selected sample has one fate."""
    async with open_broker(broker_name, tmp_path) as broker:
        site = Site(tmp_path, broker.port)
        await site.cloud.start()
        await site.edge.start()
        try:
            await eventually(lambda: site.trained() >= 64, LIMIT_S)
            assert site.answered() < IMAGES, "the stream was over before the kill"
            match victim:
                case "edge":
                    await site.edge.kill()
                    assert site.answered() < IMAGES
                    await site.edge.start()
                case "cloud":
                    await site.cloud.kill()
                    await site.cloud.start()
                case _:
                    await broker.restart()
            assert await site.edge.finish() == 0, site.edge.log
            await eventually(lambda: site.pending() == 0, LIMIT_S)
        finally:
            await site.edge.end(signal.SIGKILL)
            cloud_code = await site.cloud.end(signal.SIGTERM)
        assert cloud_code == 0, site.cloud.log
        code, text = await site.books()

    assert code == 0, text
    assert "the books balance" in text
    found = BALANCE.search(text)
    assert found is not None, text
    selected, trained, rejected, expired, dropped, under_way = map(int, found.groups())
    assert under_way == 0
    assert selected > IMAGES / 2
    assert trained + rejected + expired + dropped == selected
    assert dropped == rejected == 0
    assert site.doubled() == 0
    assert site.trained() <= selected
    assert site.answered_indices() == set(range(IMAGES))
