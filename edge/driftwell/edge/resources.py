"""Reads the machine for telemetry; what it does not offer is None, never an error."""

from pathlib import Path

import psutil

from driftwell.messages.telemetry import Resources


def read_resources(process: psutil.Process, folder: Path) -> Resources:
    """One reading.

    Args:
        process: The daemon's own process.
        folder: The state folder; its disk is the one whose free space counts.
    """
    memory = psutil.virtual_memory()
    battery = psutil.sensors_battery() if hasattr(psutil, "sensors_battery") else None
    return Resources(
        cpu_percent=min(100.0, max(0.0, psutil.cpu_percent(interval=None))),
        memory_used_bytes=memory.total - memory.available,
        memory_total_bytes=memory.total,
        process_memory_bytes=process.memory_info().rss,
        disk_free_bytes=psutil.disk_usage(str(folder)).free,
        temperature_celsius=_hottest(),
        battery_percent=min(100.0, max(0.0, float(battery.percent))) if battery else None,
        on_battery=not battery.power_plugged if battery else None,
    )


def _hottest() -> float | None:
    # Only some platforms have this reading at all, and some of them an empty one.
    read = getattr(psutil, "sensors_temperatures", None)
    readings = [entry.current for group in (read() if read else {}).values() for entry in group]
    return max(readings, default=None)
