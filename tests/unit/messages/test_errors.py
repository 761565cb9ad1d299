"""The error tree: whose fault it was, and the word that goes back."""

import pytest

from driftwell.messages import errors
from driftwell.messages.errors import DriftwellError, RefusalCode, WireError

CASES = {
    "malformed": errors.MalformedError("cut short"),
    "wrong-type": errors.MalformedError("an ack on a state topic", RefusalCode.WRONG_TYPE),
    "too-large": errors.TooLargeError(11, 10),
    "unknown-schema": errors.UnknownSchemaError(2, 1),
    "wrong-sender": errors.WrongSenderError("a", "b"),
    "bad-array": errors.ArrayError("too short"),
    "not-finite": errors.ArrayError("NaN", RefusalCode.NOT_FINITE),
    "expired": errors.DeltaError("yesterday", RefusalCode.EXPIRED),
    "infeasible-budget": errors.InfeasibleBudgetError({"ms": 2}, {"ms": 1}, {"ms": {"ms": 2}}),
}


@pytest.mark.parametrize("code", CASES)
def test_a_wire_error_carries_its_code(code: str) -> None:
    """Every error that a peer can cause says in one word what it was."""
    assert isinstance(CASES[code], WireError)
    assert code == CASES[code].code


def test_the_tree_in_the_docstring_is_the_tree() -> None:
    """The drawing at the top of the module names every error class, and no other."""
    drawn = {line.split()[0] for line in _tree_lines() if line.split()}
    defined = {
        name
        for name, value in vars(errors).items()
        if isinstance(value, type) and issubclass(value, DriftwellError)
    }

    assert defined == drawn


def _tree_lines() -> list[str]:
    lines = (errors.__doc__ or "").splitlines()
    start = lines.index("DriftwellError")
    return [line.strip("│├└─ ") for line in lines[start : lines.index("", start)]]


def test_the_operators_errors_are_not_the_peers() -> None:
    """What the operator must mend is never mistaken for something a peer sent."""
    for one in (
        errors.BrokerError,
        errors.BundleError,
        errors.SourceError,
        errors.SettingsError,
    ):
        assert issubclass(one, DriftwellError)
        assert not issubclass(one, WireError)


def test_sizes_and_schemas_can_be_read_from_the_error() -> None:
    """An error tells its numbers as attributes, not only in its text."""
    too_large = errors.TooLargeError(11, 10)

    assert (too_large.size_bytes, too_large.limit_bytes) == (11, 10)
    assert errors.UnknownSchemaError(2, 1).schema == 2
