"""What must be tried to prove some links, and whether what was seen proves them."""

from __future__ import annotations

import math
import os
import socket
from collections.abc import Collection

import attrs

from syndicate.domain.fault import Links
from syndicate.network.interface import Proof
from syndicate.network.limits import Limit
from syndicate.network.probe import SHORTEST_WAIT, Attempt, Tally
from syndicate.network.rules import ALLOWANCE

#: Datagrams that show a loss.
_FEWEST, _MOST = 50, 1000
#: So many must be lost on average for the loss of none to be no chance.
_LOSSES = 20
#: Chance does not go further from the average than so many standard deviations.
_DEVIATIONS = 6.0

#: Bytes of a datagram that is to use up a rate, and of what the network adds to it.
_SIZE, _HEADERS = 1400, 28
#: Bytes that are sent at most to use one up.
_LARGEST_TRIAL = 256 << 10

#: Seconds that are waited at most for packets that are held back.
_LONGEST_WAIT = 3.0
#: Seconds that a packet may be held back longer than was asked, on a busy host.
_LATE = 0.5


@attrs.frozen
class Asked:
    """What is asked for one address."""

    address: str
    blocked: bool
    #: A share of 1.
    loss: float
    #: Bytes per second.
    rate: float
    #: Seconds.
    delay: float
    refused: bool
    #: The shortest and the longest time that anything was held back by this guard so far; 0 for
    #: never.
    shortest: float
    longest: float

    @classmethod
    def of(cls, links: Links, address: str, former: Collection[float] = ()) -> Asked:
        """What links ask for it.

        :param former: for how long packets were held back until now.
        """
        return cls(
            address,
            address in links.blocked,
            dict(links.loss).get(address, 0.0) / 100,
            dict(links.rate).get(address, 0.0),
            dict(links.delay).get(address, 0.0),
            address in links.refused,
            min(former, default=0.0),
            max(former, default=0.0),
        )

    @property
    def bucket(self) -> float:
        """Bytes that may go at once, after a rest, at that rate."""
        return self.rate + ALLOWANCE

    @property
    def shows_rate(self) -> bool:
        """Whether it can be used up by a trial."""
        return 0 < self.bucket <= _LARGEST_TRIAL and bool(self.rate) and not self.blocked

    def attempt(self) -> Attempt:
        """What to try."""
        if self.blocked:
            return Attempt(self.address)
        if self.shows_rate:
            count = math.ceil(1.25 * self.bucket / (_SIZE + _HEADERS)) + 1
            return Attempt(self.address, count, _SIZE)
        if self.loss:
            return Attempt(self.address, min(max(_FEWEST, int(_LOSSES / self.loss)), _MOST))
        return Attempt(self.address)

    @property
    def wait(self) -> float:
        """Seconds that what is tried may take to leave."""
        longest = max(self.delay, self.longest)
        if longest and not self.blocked:
            return min(longest + _LATE, _LONGEST_WAIT)
        return SHORTEST_WAIT

    @property
    def needs_limit(self) -> bool:
        """Whether a rate is asked for that no trial uses up, so that the kernel must tell of it."""
        return bool(self.rate) and not self.shows_rate and not self.blocked

    def judge(
        self, tally: Tally, heard: Collection[str] | None, limit: Limit | None = None
    ) -> tuple[Proof, bool]:
        """What was seen, and whether it is as asked.

        :param heard: addresses from which something was let in; None where that was not tried.
        :param limit: what the kernel tells of its limit to that address, with the packets that
            came to it during the trial; None where there is none.
        """
        passes = tally.left > 0 or (not tally.turned and not tally.error)
        good = self._good(tally)
        seen = _describe(tally)
        if self.needs_limit:
            good = good and self._limited(tally, limit)
            seen += _describe_limit(limit, tally)
        if heard is not None:
            let_in = self.address in heard
            good = good and let_in != self.refused
            seen += "; what comes from it is " + ("let in" if let_in else "refused")
        return Proof(self.address, passes, seen), good

    def _limited(self, tally: Tally, limit: Limit | None) -> bool:
        if limit is None or limit.rate != round(self.rate):
            return False
        # Those that are lost by chance are lost before they come to it.
        return limit.packets >= max(tally.left, 0 if self.loss else 1)

    def _good(self, tally: Tally) -> bool:
        if tally.error:
            return False
        if self.blocked:
            return tally.turned == tally.sent
        if self.shows_rate:
            # What is given back during the trial comes on top; the trial takes milliseconds.
            left = (tally.sent - tally.turned) * (_SIZE + _HEADERS)
            return tally.turned > 0 and left <= 1.5 * self.bucket
        if not self._lost_as_by_chance(tally):
            return False
        if self.delay and tally.fastest >= 0:
            return 0.9 * self.delay <= tally.fastest / 1e6 <= self.delay + _LATE
        # One that waits longer than we do is held back, or nobody answers for its address.
        return self.delay > 0 or not self.shortest or tally.fastest / 1e6 < self.shortest / 2

    def _lost_as_by_chance(self, tally: Tally) -> bool:
        expected = tally.sent * self.loss
        spread = _DEVIATIONS * math.sqrt(expected * (1 - self.loss))
        if self.rate:  # which may take more
            return tally.turned >= expected - spread
        if not self.loss or self.loss == 1:
            return tally.turned == round(expected)
        proven = tally.turned > 0 or expected < _LOSSES / 2
        return proven and abs(tally.turned - expected) <= spread + 1


def _describe_limit(limit: Limit | None, tally: Tally) -> str:
    if limit is None:
        return "; the kernel has no limit on what goes to it"
    listed = f"; the kernel lists a limit of {limit.rate} bytes per second"
    met = f", to which {limit.packets} packets of the job came meanwhile"
    return listed + met + ("" if tally.turned else ", and which they did not use up")


def _describe(tally: Tally) -> str:
    if tally.error:
        return f"nothing could be sent: {os.strerror(tally.error)}"
    if tally.sent == 1:
        if tally.turned:
            return "a datagram was turned back"
        if not tally.left:
            return "a datagram was let go, and has not left yet"
        return f"a datagram left by {_name(tally.interface)} after {tally.fastest / 1000:.3f} ms"
    text = f"{tally.turned} of {tally.sent} datagrams were lost"
    if tally.left:
        text += f", others left by {_name(tally.interface)} after {tally.fastest / 1000:.3f} ms"
    return text


def _name(interface: int) -> str:
    try:
        return socket.if_indextoname(interface)
    except OSError:
        return f"interface {interface}"
