"""The files of a finished job that tell of faults and measurements; see doc/results.rst."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import IO, Any

Record = Mapping[str, Any]

FAULTS, SAMPLES, MACHINES, RESULT = "faults.jsonl", "samples.csv", "machines.json", "result.json"

#: The keys of a job that tell how it ended.
_ENDED = (
    *("job", "name", "user", "state", "outcome", "limit", "reason", "attempt", "seed"),
    *("submitted_at", "started_at", "finished_at"),
)


def write_faults(file: IO[str], faults: Iterable[Record]) -> None:
    """``faults.jsonl``: a line for each fault, as the JSON API gives it."""
    file.writelines(json.dumps(fault, ensure_ascii=False) + "\n" for fault in faults)


def write_samples(file: IO[bytes], chunks: Iterable[bytes]) -> None:
    """``samples.csv``: as the JSON API gives it."""
    for chunk in chunks:
        file.write(chunk)


def write_machines(file: IO[str], job: Record) -> None:
    """``machines.json``: the machines of the last attempt, as the JSON API gives them."""
    _write(file, job["machines"])


def write_result(file: IO[str], job: Record) -> None:
    """``result.json``: how the job ended, and what each client has said with Finish."""
    clients = [
        {"machine": machine["machine"], "finished": machine.get("result") is not None}
        | dict(machine.get("result") or {"passed": False, "score": None, "notes": ""})
        for machine in job["machines"]
        if machine["role"] == "client"
    ]
    _write(file, {**{key: job.get(key) for key in _ENDED}, "clients": clients})


def _write(file: IO[str], value: object) -> None:
    file.write(json.dumps(value, ensure_ascii=False, indent=2) + "\n")
