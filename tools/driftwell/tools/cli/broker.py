"""`driftwell broker`: an MQTT broker without installing one."""

import asyncio
from typing import Annotated

import typer

app = typer.Typer(help="An embedded MQTT broker, for trying things out.", no_args_is_help=True)


@app.command("run")
def run(
    host: Annotated[str, typer.Option(help="Interface to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port; 0 finds a free one.")] = 1883,
) -> None:
    """Serve MQTT 3.1.1 until Ctrl-C. Nothing survives a restart: use Mosquitto in production.

    Example: driftwell broker run --port 1883
    """
    asyncio.run(_serve(host, port))


async def _serve(host: str, port: int) -> None:
    from driftwell.broker.embedded import EmbeddedBroker
    from driftwell.tools.signals import stop_on_signal

    with stop_on_signal() as stopping:
        async with EmbeddedBroker(host=host, port=port) as broker:
            typer.echo(f"broker at {broker.url} (anonymous, in memory); Ctrl-C ends it")
            await stopping.wait()
