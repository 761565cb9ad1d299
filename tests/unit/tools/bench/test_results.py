"""Results as people and programs read them."""

import json
from io import StringIO

from rich.console import Console

from driftwell.tools.bench.results import Result, as_json, as_table


def _result(stream: str, accuracy: float) -> Result:
    return Result(
        stream=stream,
        method="cema",
        seed=0,
        n=100,
        accuracy=accuracy,
        uploaded=40,
        bytes_up=1000,
        bytes_down=500,
        versions_applied=3,
        versions_refused=0,
        lag_s_p50=0.5,
        edge_forward_ms=10.0,
        edge_other_ms=1.0,
    )


def test_json_has_the_promised_fields() -> None:
    """Every field other programs were promised is there, under its name."""
    [row] = json.loads(as_json([_result("fog", 70.0)]))["results"]

    promised = {
        "stream", "method", "seed", "n", "accuracy", "uploaded", "bytes_up", "bytes_down",
        "versions_applied", "versions_refused", "lag_s_p50", "edge_forward_ms", "edge_other_ms",
    }  # fmt: skip
    assert promised <= row.keys()
    assert row["accuracy"] == 70.0


def test_table_ends_with_the_mean_of_several_streams() -> None:
    """Two streams of 60 and 70 % have a mean of 65 %."""
    text = StringIO()
    Console(file=text, width=160).print(as_table([_result("fog", 70.0), _result("snow", 60.0)]))

    assert "mean of 2" in text.getvalue()
    assert "65.00" in text.getvalue()
