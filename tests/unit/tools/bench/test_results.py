"""Results as people and programs read them."""

import json
from io import StringIO

from rich.console import Console

from driftwell.tools.bench.results import Result, as_json
from driftwell.tools.bench.tables import as_table


def _result(stream: str, accuracy: float, seed: int = 0) -> Result:
    return Result(
        stream=stream,
        method="cema",
        seed=seed,
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


def test_several_seeds_are_one_row() -> None:
    """Their mean, and the standard deviation of a seed."""
    text = StringIO()
    results = [_result("fog", 70.0, seed=0), _result("fog", 74.0, seed=1)]
    Console(file=text, width=160).print(as_table(results))

    assert "72.00 ± 2.83" in text.getvalue()
    assert text.getvalue().count("fog") == 1


def test_the_deviation_is_of_the_means_of_seeds_not_of_streams() -> None:
    """Streams differ by 20 points, but both seeds have a mean of 70 %."""
    text = StringIO()
    results = [
        _result("fog", 80.0, 0), _result("snow", 60.0, 0),
        _result("fog", 79.0, 1), _result("snow", 61.0, 1),
    ]  # fmt: skip
    Console(file=text, width=160).print(as_table(results))

    assert "70.00 ± 0.00" in text.getvalue()
