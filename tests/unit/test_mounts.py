"""Reading the kernel's list of mounts, in which names are written in a way of their own."""

from __future__ import annotations

from pathlib import Path

import pytest

from syndicate.mounts import Mount, parse

LISTED = (
    "23 28 0:21 / /proc rw,nosuid shared:5 - proc proc rw\n"
    "30 28 0:26 / /a\\040b\\134c/Größe\\0111 rw - tmpfs small\\040disk rw,size=64k\n"
    "31 28 8:1 /srv/lab/v1 /elsewhere rw shared:1 master:2 - ext4 /dev/sda1 rw\n"
    "32 28 0:30 / / rw - overlay syndicate rw,lowerdir=/x/lab/a:/y/b,upperdir=/z/up/upper\n"
)


def test_names_are_read_as_they_are() -> None:
    proc, small, shown, layers = parse(LISTED.encode())
    assert proc == Mount(Path("/proc"), "/", "proc", "proc", "rw")
    assert (small.point, small.source) == (Path("/a b\\c/Größe\t1"), "small disk")
    assert (shown.shown, shown.kind, shown.source) == ("/srv/lab/v1", "ext4", "/dev/sda1")
    assert layers.options.endswith("upperdir=/z/up/upper")


def test_what_is_no_text_is_read_too() -> None:
    (found,) = parse(b"30 28 0:26 / /\xff rw - tmpfs none rw\n")
    assert found.point == Path("/\udcff")


@pytest.mark.parametrize(
    ("directory", "which"),
    [
        ("/a b\\c", 1),
        ("/srv/lab", 2),
        ("/elsewhere", 2),
        ("/x/lab", 3),
        ("/x/lab/a", 3),
        ("/y", 3),
        ("/z/up/upper", 3),
    ],
)
def test_a_mount_concerns_what_it_is_at_and_what_it_shows(directory: str, which: int) -> None:
    found = [mount.concerns(Path(directory)) for mount in parse(LISTED.encode())]
    assert found == [n == which for n in range(4)]


@pytest.mark.parametrize("directory", ["/x/la", "/lab", "/x/lab/a2", "/srv/lab/v", "/else", "/up"])
def test_a_mount_does_not_concern_what_is_called_alike(directory: str) -> None:
    assert not any(mount.concerns(Path(directory)) for mount in parse(LISTED.encode()))
