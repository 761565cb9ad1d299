"""How an error of ours reaches the user."""

import pytest

from driftwell.messages.errors import SettingsError
from driftwell.tools import cli


def test_square_brackets_reach_the_user(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A text that looks like markup is printed as it is, and the exit code is 2."""

    def fail() -> None:
        raise SettingsError('pip install "driftwell[demo]" [/none]')

    monkeypatch.setattr(cli, "app", fail)

    with pytest.raises(SystemExit) as ended:
        cli.main()

    assert ended.value.code == 2
    assert 'pip install "driftwell[demo]" [/none]' in capsys.readouterr().err


def test_an_error_inside_a_task_group_is_one_line(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nested groups of our errors are unwrapped; nobody sees a traceback."""

    def fail() -> None:
        inner = ExceptionGroup("inner", [SettingsError("the port is taken")])
        raise ExceptionGroup("outer", [inner])

    monkeypatch.setattr(cli, "app", fail)

    with pytest.raises(SystemExit):
        cli.main()

    assert capsys.readouterr().err == "error: the port is taken\n"
