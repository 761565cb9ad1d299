"""Which brokers a contract test is run against, and what one of them does not promise."""

from typing import Final

import pytest
from tests.brokers import RIGS

_AMQTT_FORGETS: Final = pytest.mark.xfail(
    strict=True,
    raises=TimeoutError,
    reason="amqtt forgets what was delivered and not acknowledged",
)


def _case(name: str, *, redelivers: bool) -> object:
    marks = [] if name == "memory" else [pytest.mark.integration]
    if name == "embedded" and redelivers:
        marks.append(_AMQTT_FORGETS)
    return pytest.param(name, marks=marks)


ALL: Final = [_case(name, redelivers=False) for name in RIGS]

REDELIVERS: Final = [_case(name, redelivers=True) for name in RIGS]
"""For what needs a broker that keeps what was delivered and not acknowledged."""
