"""The demo's report: one HTML file with everything in it, nothing loaded from anywhere."""

import base64
import html
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from string import Template
from typing import Final

from driftwell.tools.demo.record import Record
from driftwell.tools.demo.verdict import Outcome, verdict_line

_PAGE: Final = Template("""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Driftwell demo</title>
<style>
body { font: 16px/1.5 system-ui, sans-serif; max-width: 62rem; margin: 2rem auto; padding: 0 1rem;
  color: #1c2421; background: #fff; }
img { max-width: 100%; height: auto; }
table { border-collapse: collapse; margin: 1rem 0; }
th, td { padding: .3rem .8rem; border-bottom: 1px solid #d5dcd8; text-align: right; }
th:first-child, td:first-child, td.text { text-align: left; }
code, pre { background: #f2f5f3; padding: .1rem .3rem; }
pre { padding: .8rem; overflow-x: auto; }
.verdict { font-size: 1.25rem; font-weight: 600; }
</style>
</head>
<body>
<h1>Driftwell demo</h1>
<p class="verdict">$verdict</p>
<p>Three cameras read handwritten digits with one small network that only knows clear images.
In the middle of each stream the weather changes. From then on each camera sends the images it
is unsure of to the cloud. There a larger network adapts to them and teaches the small one; what
comes back are normalisation parameters only, about 2 kB a version. No label is used: labels
only measure the accuracy below. “Without adaptation” is the same small network as it was
made, over the same images.</p>
<img alt="Accuracy of each camera over its stream" src="data:image/png;base64,$image">
<h2>Accuracy</h2>
<table>
<tr><th>camera</th><th>weather</th><th>clear: without</th><th>with</th>
<th>in the weather: without</th><th>with</th><th>gain, points</th></tr>
$accuracies
</table>
<h2>Traffic</h2>
<table>
<tr><th>camera</th><th>images</th><th>uploaded</th><th>kB up</th><th>kB down</th>
<th>version at the end</th></tr>
$traffic
</table>
<p>Bytes are whole MQTT packets, telemetry twice a second included, as the cameras last reported
them.</p>
<h2>Settings</h2>
<table>
$settings
</table>
<h2>How to go on</h2>
<p>Nothing here is special to the demo: it started <code>driftwell cloud run</code> and
<code>driftwell edge run</code>. Make a bundle of your own model, then run the same two
commands:</p>
<pre>$commands</pre>
<p>After <code>driftwell demo --keep</code> the state folders are still there, and <code>driftwell
books</code> says what became of every uploaded image.</p>
</body>
</html>
""")

_COMMANDS: Final = """\
driftwell bundle create --model my_package.my_module:my_network --weights weights.safetensors \\
    --input 16x16x1 --classes 10 --mean 0.3 --std 0.33 --out bundles/edge
driftwell broker run
driftwell cloud run --foundation bundles/foundation --edge bundles/edge
driftwell edge run --bundle bundles/edge --source dir:/var/camera --device cam-1 --predictions -"""


@dataclass(frozen=True, slots=True)
class Report:
    """What the report tells."""

    records: Sequence[Record]
    outcomes: Sequence[Outcome]
    settings: Mapping[str, str]
    image: bytes
    """The figure, PNG."""

    def as_html(self) -> str:
        """The whole page."""
        return _PAGE.substitute(
            verdict=html.escape(verdict_line(self.outcomes)),
            image=base64.b64encode(self.image).decode("ascii"),
            accuracies=_rows([_accuracy(o, r) for o, r in self._pairs()]),
            traffic=_rows([_traffic(record) for record in self.records]),
            settings=_rows([list(setting) for setting in self.settings.items()]),
            commands=html.escape(_COMMANDS),
        )

    def _pairs(self) -> list[tuple[Outcome, Record]]:
        return list(zip(self.outcomes, self.records, strict=True))


def _accuracy(outcome: Outcome, record: Record) -> list[str]:
    weather = record.camera.weather
    return [
        outcome.device,
        f"{weather.name}: {weather.description}",
        f"{100 * outcome.clear_unaided:.1f} %",
        f"{100 * outcome.clear_adapted:.1f} %",
        f"{100 * outcome.shifted_unaided:.1f} %",
        f"{100 * outcome.shifted_adapted:.1f} %",
        f"{100 * outcome.gain:+.1f}",
    ]


def _traffic(record: Record) -> list[str]:
    share = 100 * record.uploads / max(1, record.seen)
    return [
        record.camera.name,
        str(record.seen),
        f"{record.uploads} ({share:.0f} %)",
        f"{record.bytes_up / 1e3:.1f}",
        f"{record.bytes_down / 1e3:.1f}",
        str(record.version),
    ]


def _rows(rows: Sequence[Sequence[str]]) -> str:
    return "\n".join(
        "<tr>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in row) + "</tr>" for row in rows
    )
