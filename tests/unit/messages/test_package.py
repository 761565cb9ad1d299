"""What `driftwell.messages` offers to the rest of the program."""

import subprocess
import sys

import driftwell.messages


def test_everything_in_all_exists() -> None:
    """`__all__` names nothing twice and nothing that is not there."""
    names = driftwell.messages.__all__

    assert len(names) == len(set(names))
    assert [name for name in names if not hasattr(driftwell.messages, name)] == []


def test_the_wire_does_without_torch() -> None:
    """Importing the messages loads neither torch nor an MQTT client."""
    program = (
        "import sys, driftwell.messages, driftwell.messages.signing\n"
        "print({'torch', 'aiomqtt', 'paho', 'asyncio'} & set(sys.modules))"
    )

    answer = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True)

    assert answer.stdout.decode().strip() == "set()"
