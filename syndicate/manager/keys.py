"""Keys of records in the store: in the order of jobs' numbers, and of the faults of each."""

from __future__ import annotations


def job_key(number: int) -> str:
    """The key of a job."""
    return f"{number:016x}"


def job_of(key: str) -> int:
    """The number of the job that has this key."""
    return int(key, 16)


def fault_key(job: int, fault: int) -> str:
    """The key of a fault of a job."""
    return f"{job_key(job)}/{fault:08x}"
