"""Who asks something of the manager."""

from __future__ import annotations

import attrs


@attrs.frozen
class User:
    """Who asks: what the manager's doors have found out from a token."""

    name: str
    role: str
    #: The id of the token, and the address it came from; they are for the audit log alone.
    token: str = attrs.field(default="", eq=False)
    address: str = attrs.field(default="", eq=False)

    @property
    def staff(self) -> bool:
        """Whether all jobs are theirs to steer."""
        return self.role in ("staff", "operator")
