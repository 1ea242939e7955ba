"""The library behind the command ``nft``, by ctypes: a change takes a tenth of a millisecond, where
starting the command takes ten.
"""

from __future__ import annotations

import ctypes
import socket

_LIBRARY = "libnftables.so.1"
_NETFILTER = 12


class NftError(Exception):
    """What the library or the kernel does not take; says why."""


class Nftables:
    """One connection to the kernel's packet filter, in the network namespace of the thread that
    makes it.

    Tables that are made with ``flags owner`` belong to this connection: nobody else can change
    them, and they are gone when it is closed, even by the death of the process.

    :raises NftError: the library is not there, or refuses to work.
    """

    def __init__(self) -> None:
        try:
            # The library itself ends the whole process where there is no such thing.
            socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _NETFILTER).close()
        except OSError as error:
            raise NftError(f"this kernel has no packet filter: {error.strerror}") from error
        try:
            library = ctypes.CDLL(_LIBRARY)
        except OSError as error:
            raise NftError(
                f"{_LIBRARY} cannot be loaded ({error}): install Debian's libnftables1"
            ) from error
        library.nft_ctx_new.restype = ctypes.c_void_p
        library.nft_ctx_new.argtypes = [ctypes.c_uint32]
        library.nft_ctx_free.argtypes = [ctypes.c_void_p]
        library.nft_run_cmd_from_buffer.argtypes = [ctypes.c_void_p, ctypes.c_char_p]
        for name in ("output", "error"):
            getattr(library, f"nft_ctx_buffer_{name}").argtypes = [ctypes.c_void_p]
            getter = getattr(library, f"nft_ctx_get_{name}_buffer")
            getter.argtypes, getter.restype = [ctypes.c_void_p], ctypes.c_char_p
        self._library = library
        self._context = library.nft_ctx_new(0)
        if not self._context:
            raise NftError(f"{_LIBRARY} cannot reach the kernel: are we root?")
        # What is printed is kept for us, else it would go to our standard output.
        library.nft_ctx_buffer_output(self._context)
        library.nft_ctx_buffer_error(self._context)

    def run(self, text: str) -> str:
        """Have some text of commands carried out: all of them, in one step, or none.

        :returns: what was printed.
        :raises NftError: none was carried out.
        """
        if not self._context:
            raise NftError("the connection to the packet filter is closed")
        code = self._library.nft_run_cmd_from_buffer(self._context, text.encode())
        printed = self._library.nft_ctx_get_output_buffer(self._context)
        complaint = self._library.nft_ctx_get_error_buffer(self._context)
        if code:
            # The rest of it quotes the command, with a line of carets below.
            lines = (complaint or b"").decode("utf-8", "replace").splitlines()
            raise NftError(lines[0] if lines else f"failed with code {code}")
        return (printed or b"").decode("utf-8", "replace")

    def close(self) -> None:
        """End the connection; the tables it owns are gone with it. May be called again."""
        if self._context:
            self._library.nft_ctx_free(self._context)
            self._context = None
