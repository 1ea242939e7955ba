"""Text of jobs and of strangers, shown so that it gives no orders to a terminal."""

from __future__ import annotations

_VISIBLE = {code: chr(0x2400 + code) for code in range(32)} | {127: "␡"}
_VISIBLE |= {code: "�" for code in range(0x80, 0xA0)}
_BUT_TABS = {code: sign for code, sign in _VISIBLE.items() if code != 9}


def visible(text: str, *, tabs: bool = False) -> str:
    """Text with its control characters made visible.

    :param tabs: whether tabs are left as they are.
    """
    return text.translate(_BUT_TABS if tabs else _VISIBLE)
