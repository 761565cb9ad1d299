"""First versions: what a cohort's devices get before they have sent anything."""

from collections.abc import Iterator

import structlog

from driftwell.cloud.consumer import Consumer
from driftwell.cloud.tables import StoredVersion

log = structlog.get_logger()


def begin_cohorts(consumer: Consumer) -> Iterator[StoredVersion]:
    """Give every cohort that waits for it the start state; yield the versions, once booked.

    Raises:
        sqlite3.OperationalError: if the disk does not take it; the cohort goes on waiting.
    """
    while consumer.learner.start is not None and consumer.cohorts.beginning:
        name = next(iter(consumer.cohorts.beginning))
        version = consumer.issuer.begin(consumer.cohorts[name], consumer.learner.start)
        del consumer.cohorts.beginning[name]
        if version is not None:
            log.info("cohort.begun", cohort=name, version=version.version)
            yield version
