"""Puts a consumer together: the same for the program and for the virtual cloud."""

import contextlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from driftwell.cloud.cema import CemaLearner
from driftwell.cloud.code_identity import software_name
from driftwell.cloud.consumer import Consumer
from driftwell.cloud.distiller import Distiller
from driftwell.cloud.learner import Learner
from driftwell.cloud.ledger import Ledger
from driftwell.cloud.modular.assembly import open_keeper
from driftwell.cloud.modular.refining import Labelled
from driftwell.cloud.settings import CloudSettings
from driftwell.cloud.signing_key import signing_key
from driftwell.messages.errors import SettingsError
from driftwell.models.bundle import Bundle, open_bundle
from driftwell.models.state_folder import own_folder


def make_learner(settings: CloudSettings, *, edge: Bundle, foundation: Bundle) -> Learner:
    """The learner a method's settings ask for.

    Raises:
        DriftwellError: if the bundles, the start's too, do not fit each other.
    """
    start = open_bundle(settings.start) if settings.start else None
    if settings.method.cema_tables is None:
        return Distiller(foundation, edge, settings.method, start=start)
    if start is not None:
        raise SettingsError("start: cema begins with the edge bundle's own weights; leave it out")
    return CemaLearner(foundation, edge, settings.method)


@contextmanager
def open_consumer(
    settings: CloudSettings,
    folder: Path,
    *,
    edge: Bundle,
    foundation: Bundle,
    session: str,
    wall_ns: Callable[[], int],
    survives_power_failure: bool,
    data: Labelled | None = None,
) -> Iterator[Consumer]:
    """A consumer that goes on where its state folder is; the folder is owned meanwhile.

    Args:
        settings: Its paths, broker and threads are not looked at.
        folder: Ledger, versions, signing key; made if it is not there.
        edge: The bundle whose versions are made.
        foundation: The bundle that teaches.
        session: 16 hexadecimal digits.
        wall_ns: Nanoseconds since the Unix epoch.
        survives_power_failure: Whether every commit waits for the disk.
        data: Labelled source images, to refine the sub-models of a modular model with.

    Raises:
        DriftwellError: if the bundles do not fit each other or the folder.
    """
    learner = make_learner(settings, edge=edge, foundation=foundation)
    with (
        own_folder(folder),
        contextlib.closing(Ledger(folder, survives_power_failure=survives_power_failure)) as ledger,
    ):
        key = signing_key(folder)
        consumer = Consumer(
            settings,
            edge=edge,
            learner=learner,
            ledger=ledger,
            key=key,
            session=session,
            wall_ns=wall_ns,
            software=software_name(),
        )
        consumer.restore()
        with open_keeper(
            consumer, folder, key=key, survives_power_failure=survives_power_failure, data=data
        ) as keeper:
            consumer.keeper = keeper
            yield consumer
