"""What may be written under which name.

Names of blobs and logs become names of files, so nothing else gets through.
"""

from __future__ import annotations

import re

from syndicate.domain.errors import Invalid, TooLarge

_DIGEST = re.compile(r"[0-9a-f]{64}")
_MACHINE = re.compile(r"(master|(slave|client)\[(0|[1-9][0-9]{0,5})\])")


def check_digest(sha256: str) -> str:
    """The digest, if it is one.

    :raises Invalid: it is not 64 lower-case hexadecimal digits.
    """
    if not is_digest(sha256):
        raise Invalid(f"{sha256!r} is no SHA-256: give 64 lower-case hexadecimal digits.")
    return sha256


def is_digest(name: str) -> bool:
    """Whether a name is 64 lower-case hexadecimal digits."""
    return _DIGEST.fullmatch(name) is not None


def check_announced(sha256: str, size: int, limit: int, whole: int | None) -> None:
    """Raise what is wrong with a blob that somebody wants to write.

    :param whole: its size if it is there already.
    :raises TooLarge: it is over the limit.
    :raises Invalid: its digest is none, or its size cannot be.
    """
    check_digest(sha256)
    if size < 0 or whole not in (None, size):
        raise Invalid(f"The blob {sha256[:12]}… cannot have {size} bytes.")
    if size > limit:
        raise TooLarge(
            f"A blob of {size} bytes is not taken here: the limit is {limit}.", limit=limit
        )


def check_log(job: int, attempt: int, machine: str) -> tuple[int, int, str]:
    """The name of a log, if it is one.

    :raises Invalid: a number is below 1, or there is no such machine.
    """
    if job < 1 or attempt < 1 or not is_machine(machine):
        raise Invalid(
            f"There is no log of {machine!r} in attempt {attempt} of job {job}: a machine is "
            "'master', 'slave[0]' or 'client[0]', and the numbers begin at 1."
        )
    return job, attempt, machine


def is_machine(name: str) -> bool:
    """Whether a name is one that a machine can have."""
    return _MACHINE.fullmatch(name) is not None


def machine_order(machine: str) -> tuple[int, str, int]:
    """Sorts machines: the master, then the others by kind and number."""
    kind, _, index = machine.rstrip("]").partition("[")
    return (kind != "master", kind, int(index or 0))
