"""Reverts that were asked for: found in the ledger, carried out between two steps.

Whoever wants a cohort to go back leaves a row in the ledger (`registry.ask_for_revert`); the
cloud that owns it answers, now or at its next start. There is no other way, so a request
survives whatever is killed.
"""

from collections.abc import Iterator

import structlog

from driftwell.cloud.consumer import Consumer
from driftwell.cloud.tables import RevertRequest, StoredVersion
from driftwell.messages.errors import WireError

log = structlog.get_logger()


def carry_out_reverts(consumer: Consumer) -> Iterator[StoredVersion]:
    """Answer every request that waits; yield the versions made, each when it is booked.

    Not to be called while a step runs: the step's commit would undo the revert.

    Raises:
        sqlite3.OperationalError: if the disk does not take it; the request goes on waiting.
    """
    consumer.is_revert_waiting = False
    while (request := consumer.ledger.next_revert()) is not None:
        version = _carry_out(consumer, request)
        if version is not None:
            yield version


def _carry_out(consumer: Consumer, request: RevertRequest) -> StoredVersion | None:
    asked = {"cohort": request.cohort, "to": request.version}
    cohort = consumer.cohorts.get(request.cohort)
    try:
        if cohort is None:
            reason = "no such cohort"
        else:
            version = consumer.issuer.revert(cohort, request)
            consumer.counters["reverts"] += 1
            log.info("cohort.reverted", **asked, version=version.version)
            return version
    except WireError as error:
        reason = str(error)
    log.error("revert.refused", **asked, reason=reason)
    consumer.counters["reverts-refused"] += 1
    consumer.ledger.answer_revert(request)
    return None
