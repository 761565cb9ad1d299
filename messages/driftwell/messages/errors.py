"""Pure. Every error Driftwell raises on purpose, sorted by whose fault it is.

DriftwellError
├── WireError             a peer sent it; carries the refusal code that goes back
│   ├── MalformedError        not a message of ours, or cut short
│   ├── TooLargeError         over the size limit; refused before it is decoded
│   ├── UnknownSchemaError    a schema major this program does not speak
│   ├── WrongSenderError      the topic and the message name different devices
│   ├── ArrayError            wrong dtype, shape or length, or not finite
│   ├── DeltaError            a version this device must not apply
│   └── InfeasibleBudgetError a device's limits leave room for no sub-model
├── BrokerError           the network: nobody listens, access denied, port in use
├── RecordingError        a recording cannot be written, read, or is not one of ours
├── BundleError           a model bundle is incomplete, altered or fails its self-test
├── SourceError           a stream of samples cannot be read
└── SettingsError         the operator's configuration or arguments

The last five are for the operator: their text says what was wrong and what to do.
"""

from collections.abc import Mapping
from enum import StrEnum


class RefusalCode(StrEnum):
    """Why a message or a version was refused; the same word on the wire, in logs and metrics."""

    MALFORMED = "malformed"
    TOO_LARGE = "too-large"
    UNKNOWN_SCHEMA = "unknown-schema"
    WRONG_SENDER = "wrong-sender"
    WRONG_TYPE = "wrong-type"
    BAD_ARRAY = "bad-array"
    NOT_FINITE = "not-finite"
    WRONG_MODEL = "wrong-model"
    NOT_SUPPORTED = "not-supported"
    WRONG_COHORT = "wrong-cohort"
    WRONG_SOURCE = "wrong-source"
    BAD_SIGNATURE = "bad-signature"
    UNTRUSTED_KEY = "untrusted-key"
    OLDER_VERSION = "older-version"
    EXPIRED = "expired"
    WRONG_RESULT = "wrong-result"
    INFEASIBLE_BUDGET = "infeasible-budget"
    IMPLAUSIBLE_LIMITS = "implausible-limits"


class DriftwellError(Exception):
    """Anything Driftwell raises on purpose."""


class WireError(DriftwellError):
    """A peer sent something that must not be used; `code` says why in one word."""

    def __init__(self, message: str, code: RefusalCode) -> None:
        super().__init__(message)
        self.code = code


class MalformedError(WireError):
    """The bytes are no message of ours, are cut short, or break the type's rules."""

    def __init__(self, message: str, code: RefusalCode = RefusalCode.MALFORMED) -> None:
        super().__init__(message, code)


class TooLargeError(WireError):
    """The message is over the size limit and was not looked into."""

    def __init__(self, size_bytes: int, limit_bytes: int) -> None:
        super().__init__(
            f"message of {size_bytes} bytes is over the limit of {limit_bytes} bytes",
            RefusalCode.TOO_LARGE,
        )
        self.size_bytes = size_bytes
        self.limit_bytes = limit_bytes


class UnknownSchemaError(WireError):
    """The message speaks another schema major than this program."""

    def __init__(self, schema: int, known: int) -> None:
        super().__init__(
            f"message has schema {schema}, this program speaks schema {known}",
            RefusalCode.UNKNOWN_SCHEMA,
        )
        self.schema = schema


class WrongSenderError(WireError):
    """The message names another device than the topic it came on."""

    def __init__(self, topic_device: str, message_device: str) -> None:
        super().__init__(
            f"message of device {message_device!r} came on the topic of {topic_device!r}",
            RefusalCode.WRONG_SENDER,
        )


class ArrayError(WireError):
    """An array has a wrong dtype, shape or length, or holds NaN or infinity."""

    def __init__(self, message: str, code: RefusalCode = RefusalCode.BAD_ARRAY) -> None:
        super().__init__(message, code)


class DeltaError(WireError):
    """A version that must not be applied, or would not give the promised bits."""


class InfeasibleBudgetError(WireError):
    """No sub-model is within a device's limits; says what binds, and the smallest there is.

    Args:
        needs: What each limit that binds would have to be, by its resource. If each could be met
            alone, but not all together: what the nearest sub-model comes to.
        limits: The device's, by resource.
        smallest: For each resource of `needs`, what the sub-model that takes least of it costs,
            by resource.
        is_proven: Whether there is none; else none was found in time.
    """

    def __init__(
        self,
        needs: Mapping[str, float],
        limits: Mapping[str, float],
        smallest: Mapping[str, Mapping[str, float]],
        *,
        is_proven: bool = True,
    ) -> None:
        short = ", ".join(f"{r} needs {n:.12g} of {limits[r]:.12g}" for r, n in needs.items())
        least = "; ".join(
            f"the smallest by {r} takes " + ", ".join(f"{n:.12g} {name}" for name, n in one.items())
            for r, one in smallest.items()
        )
        verb = "is" if is_proven else "was found"
        super().__init__(
            f"no sub-model {verb} within the limits: {short}; {least}; raise these limits",
            RefusalCode.INFEASIBLE_BUDGET,
        )
        self.needs = needs
        self.limits = limits
        self.smallest = smallest
        self.is_proven = is_proven


class BrokerError(DriftwellError):
    """The network side: no broker there, access denied, port in use."""


class BundleError(DriftwellError):
    """A model bundle is incomplete, altered, of another schema, or fails its self-test."""


class RecordingError(DriftwellError):
    """A recording cannot be written, is damaged, cut short, foreign, or of another schema."""


class SourceError(DriftwellError):
    """A stream of samples cannot be read."""


class SettingsError(DriftwellError):
    """A configuration file, environment variable or argument is wrong."""
