"""How much memory a process takes."""

from __future__ import annotations

from pathlib import Path


def resident(pid: int) -> float:
    """Megabytes that a process holds now."""
    return _status(pid, "VmRSS")


def peak(pid: int) -> float:
    """The most megabytes that a process has held, since its start or `forget_peak`."""
    return _status(pid, "VmHWM")


def forget_peak(pid: int) -> None:
    """Let the kernel watch for the peak anew."""
    Path(f"/proc/{pid}/clear_refs").write_text("5")


def _status(pid: int, key: str) -> float:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        name, _, value = line.partition(":")
        if name == key:
            return int(value.split()[0]) * 1024 / 1e6
    raise RuntimeError(f"the kernel does not tell the {key} of process {pid}")
