"""Attaching a disk image to a loop device that lets go of it by itself."""

from __future__ import annotations

import errno
import fcntl
import os
import struct

_LOOP_CTL_GET_FREE = 0x4C82
_LOOP_CONFIGURE = 0x4C0A
_LOOP_SET_FD = 0x4C00
_LOOP_SET_STATUS64 = 0x4C04
_FLAG_AUTOCLEAR = 4
#: ``struct loop_info64``: device, inode, rdevice, offset, size limit, number, encryption type
#: and key size, flags, file name, crypt name, key, two unused.
_INFO = struct.Struct("=QQQQQIIII64s64s32sQQ")
#: ``struct loop_config``: descriptor, block size, the info, eight reserved.
_CONFIG = struct.Struct(f"=II{_INFO.size}s64s")
#: Others on this host may take the device that was free a moment ago.
_ATTEMPTS = 100


def attach(image: str) -> tuple[int, str]:
    """Attach an image to a free loop device.

    :returns: an open descriptor of the device, and its path. Once it is mounted the descriptor is
        to be closed; the device frees itself with the last mount or descriptor.
    :raises OSError: where the host has no loop devices, or none is left.
    """
    file = os.open(image, os.O_RDWR | os.O_CLOEXEC)
    control = os.open("/dev/loop-control", os.O_RDWR | os.O_CLOEXEC)
    try:
        for _ in range(_ATTEMPTS):
            path = f"/dev/loop{fcntl.ioctl(control, _LOOP_CTL_GET_FREE)}"
            device = os.open(path, os.O_RDWR | os.O_CLOEXEC)
            if _configured(device, file, image):
                return device, path
            os.close(device)
        raise OSError(errno.EBUSY, "no loop device became free")
    finally:
        os.close(control)
        os.close(file)


def _configured(device: int, file: int, image: str) -> bool:
    """Tie them together; false when somebody else took the device."""
    info = _INFO.pack(
        0, 0, 0, 0, 0, 0, 0, 0, _FLAG_AUTOCLEAR, os.fsencode(image)[:63], b"", b"", 0, 0
    )
    try:
        fcntl.ioctl(device, _LOOP_CONFIGURE, _CONFIG.pack(file, 0, info, b""))
    except OSError as error:
        if error.errno == errno.EBUSY:
            return False
        if error.errno not in (errno.EINVAL, errno.ENOTTY):
            raise
        return _configured_in_two_steps(device, file, info)
    return True


def _configured_in_two_steps(device: int, file: int, info: bytes) -> bool:
    """The same before Linux 5.8."""
    try:
        fcntl.ioctl(device, _LOOP_SET_FD, file)
    except OSError as error:
        if error.errno == errno.EBUSY:
            return False
        raise
    fcntl.ioctl(device, _LOOP_SET_STATUS64, info)
    return True
