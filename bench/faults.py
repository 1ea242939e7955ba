"""Fault calls, made by a client in its sandbox, beside what they cost by hand."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

from bench import cluster
from bench.cluster import Cluster
from bench.figures import Figure, Peer
from bench.lab import COMMAND
from bench.session import Session

BOUND = 300.0

JOBS = Path(__file__).parent / "jobs"
#: Master and slaves; one more volunteer is the client's.
MACHINES = 6
#: Fault calls in flight at once.
CROWD = 50


def measure(session: Session) -> list[Figure]:
    """Run one job whose client hurts it many times."""
    floors = {
        "element": Peer("nft add element", _by_hand(["unshare", "--net"], "nft", 100)),
        "kill": Peer("kill+reap by hand", _by_hand([], "kill", session.runs)),
        "start": Peer("make by hand", _by_hand([], "start", session.runs)),
    }
    lab = cluster.fresh_lab(session.directory, f"faults{session.number()}")
    lab.up(MACHINES + 1)
    try:
        found = _run(cluster.of_lab(lab), session.runs)
    finally:
        lab.down()
    _check(found)
    return [
        *_spread("Disconnect -> last packet through", found["disconnect last packet"], 15, 60,
                 floors["element"]),
        *_spread("Disconnect -> answer", found["disconnect answer"], 15, 60, floors["element"]),
        Figure("  Reconnect -> answer", found["disconnect reconnect"], "ms"),
        Figure("Kill -> last packet of its tree", found["kill last packet"], "ms"),
        Figure("Kill -> all dead -> answer", found["kill answer"], "ms", target=15,
               peer=floors["kill"]),
        Figure("Revive -> first output", found["revive first"], "ms", target=90,
               peer=floors["start"]),
        Figure("  until the answer", found["revive answer"], "ms"),
        *(
            Figure(f"{CROWD} calls of {kind} at once: all answered", found[f"crowd {kind}"], "ms")
            for kind in ("disconnect", "reconnect", "kill", "revive")
        ),
        Figure("samples of one client, all kept", found["samples rate"], "/s", target=19_500,
               more=True, note="20,000 a second are sent"),
        Figure(
            "  Disconnect meanwhile, as many times as long",
            [statistics.median(found["sampled answer"])
             / statistics.median(found["disconnect answer"])],
            "x",
            target=2,
        ),
    ]  # fmt: skip


def _spread(name: str, values: list[float], p50: float, p99: float, floor: Peer) -> list[Figure]:
    ranked = sorted(values)
    worst = ranked[min(len(ranked) - 1, int(0.99 * len(ranked)))]
    return [
        Figure(name, values, "ms", target=p50, peer=floor),
        Figure("  99 of 100 within", [worst], "ms", target=p99),
    ]


def _by_hand(around: list[str], what: str, runs: int) -> float:
    words = [*around, sys.executable, "-m", "bench.by_hand", what, str(runs)]
    done = subprocess.run(
        [*words, str(JOBS / "targets")],
        cwd=JOBS.parent.parent,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(f"{' '.join(words)}: {done.stderr.strip()}")
    times: list[float] = json.loads(done.stdout)
    return statistics.median(times)


def _run(found: Cluster, runs: int) -> dict[str, Any]:
    """Run the job by the command line; gives what its client measured."""
    words = [str(COMMAND), "submit", str(JOBS / "targets"), "-n", str(MACHINES)]
    words += ["--client", str(JOBS / "hurt"), "--clients", "1", "-o", "id"]
    words += ["--set", f"env.CALLS={10 * runs}", "--set", f"env.CYCLES={3 * runs}"]
    environment = {**os.environ, **found.environment()}
    done = subprocess.run(words, env=environment, capture_output=True, text=True, check=False)
    number = done.stdout.strip()
    # Not by following its events, which would be work for the manager at each of them.
    waited = [str(COMMAND), "wait", number or "none"]
    done = subprocess.run(waited, env=environment, capture_output=True, text=True, check=False)
    lines = {name: _lines(number, name, environment) for name in ("client[0]", "slave[0]")}
    if done.returncode:
        raise RuntimeError(f"{done.stderr.strip()} {lines['client[0]']}")
    told: dict[str, Any] = json.loads(lines["client[0]"][-1])
    # The first start was not ours, and those after the last revival are of the crowd.
    starts = [float(line) for line in lines["slave[0]"]][1:]
    told["revive first"] = [
        (first - began) * 1000
        for began, first in zip(told["revive began"], starts, strict=False)
    ]  # fmt: skip
    report = subprocess.run(
        [COMMAND, "report", number, "-o", "json"],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    told["samples kept"] = sum(each["count"] for each in json.loads(report.stdout)["operations"])
    return told


def _lines(number: str, machine: str, environment: dict[str, str]) -> list[str]:
    words = [str(COMMAND), "logs", number, "-m", machine]
    done = subprocess.run(words, env=environment, capture_output=True, text=True, check=True)
    return str(done.stdout).splitlines()


def _check(found: dict[str, Any]) -> None:
    """Make sure that every call was answered as it should.

    :raises RuntimeError: one was not.
    """
    for kind in ("disconnect", "reconnect", "kill"):
        if set(found[f"crowd {kind} answers"]) - {"verified", "healed"}:
            raise RuntimeError(f"{CROWD} calls of {kind}: {found[f'crowd {kind} answers']}")
    expected = {"verified": MACHINES, "already_running": CROWD - MACHINES}
    if found["crowd revive answers"] != expected:
        raise RuntimeError(f"{CROWD} calls of revive: {found['crowd revive answers']}")
    if found["samples kept"] != found["samples"]:
        raise RuntimeError(f"{found['samples kept']} of {found['samples']} samples were kept")
