"""Hostile clients in real sandboxes, and their neighbours, who do not notice."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psutil
import pytest

from tests.support.labs import JOBS, Running

pytestmark = [pytest.mark.system, pytest.mark.needs_root, pytest.mark.deadline(180)]

#: Seconds that an answer to somebody else may take while a client floods its door: generous, as
#: this machine may be busy with other things.
NOTICED = 5.0
#: Bytes that a daemon may grow by: answers that wait, and the allocator's own.
GROWN = 96 << 20


@contextmanager
def watched(lab: Running) -> Iterator[dict[str, Any]]:
    """How long the manager takes to answer meanwhile, and how much each daemon grows."""
    daemons = {name: psutil.Process(host.pid) for name, host in lab.lab.hosts.items()}
    before = {name: daemon.memory_info().rss for name, daemon in daemons.items()}
    seen: dict[str, Any] = {"longest": 0.0, "asked": 0}
    over = threading.Event()

    def ask() -> None:
        while not over.is_set():
            began = time.monotonic()
            assert lab.run("volunteers", "-o", "id").code == 0
            seen["longest"] = max(seen["longest"], time.monotonic() - began)
            seen["asked"] += 1

    asking = threading.Thread(target=ask)
    asking.start()
    try:
        yield seen
    finally:
        over.set()
        asking.join()
    seen["grown"] = {name: d.memory_info().rss - before[name] for name, d in daemons.items()}


def submit(lab: Running, what: str, *words: str) -> int:
    source = JOBS / "flood"
    environment = ("--set", f"env.FLOOD={what}", "--set", "env.SECONDS=6")
    return lab.submit(source, 1, "--client", str(source), *environment, *words)


def told(lab: Running, number: int) -> dict[str, Any]:
    """What a job's client has printed."""
    job = lab.wait(number, timeout=90)
    logs = lab.run("logs", str(number), "-o", "jsonl").out
    assert job["outcome"] == "passed", (job["reason"], logs)
    lines = [json.loads(line)["line"] for line in logs.splitlines()]
    found: dict[str, Any] = json.loads(next(line for line in lines if line.startswith("{")))
    return found


def test_clients_that_flood_their_doors_are_not_noticed_elsewhere(lab: Running) -> None:
    with watched(lab) as seen:
        calm = submit(lab, "calm")
        asking = submit(lab, "calls")
        opening = submit(lab, "connections", "--set", "limits.files=12000")
        calls, connections = told(lab, asking), told(lab, opening)
        neighbour = told(lab, calm)
    # Of ten thousand calls those over the rate are refused, and the door serves on.
    assert calls["404"] + calls["429"] == 10_000, calls
    assert calls["429"] > 5_000, calls
    assert calls["after"] == {"200": 1}, calls
    # Of ten thousand connections those over the most are closed, but for the last few which wait.
    assert connections["held"] + connections["refused"] == 10_000, connections
    assert connections["closed"] >= connections["held"] - 200, connections
    assert connections["after"] == {"200": 1}, connections
    # The neighbours: another job's client, whoever asks the manager, and the daemons' memory.
    assert neighbour["count"] > 10, neighbour
    assert neighbour["longest"] < NOTICED, neighbour
    assert seen["asked"] > 0
    assert seen["longest"] < NOTICED, seen
    assert max(seen["grown"].values()) < GROWN, seen
