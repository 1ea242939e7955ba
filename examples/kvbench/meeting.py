"""How the clients of a job meet: all others come to client[0], which says when to begin and end.

While they work, each tells what is surely in the store, so that the reads of all are held to it.
"""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Mapping
from typing import Any

from book import Book

#: Seconds to wait for all clients to come, and for their last words.
COMING, LAST_WORDS = 30.0, 20.0
#: Seconds between two words on what is surely there.
TELLING = 0.05


class MeetingBroken(Exception):
    """Another client has gone or is silent: the benchmark says nothing of the store then."""


class Peer:
    """The connection to another client: a JSON message on each line, read by a thread."""

    def __init__(self, link: socket.socket, book: Book) -> None:
        link.settimeout(None)
        link.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._link, self._book = link, book
        self._saying = threading.Lock()
        self._changed = threading.Condition()
        self._said: dict[str, Any] = {}
        self._gone = False
        threading.Thread(target=self._listen, daemon=True).start()

    def say(self, **words: Any) -> None:
        """Tell it something.

        :raises MeetingBroken: it has gone.
        """
        try:
            with self._saying:
                self._link.sendall(json.dumps(words).encode() + b"\n")
        except OSError as error:
            raise MeetingBroken(f"another client has gone: {error}") from error

    def wait_for(self, word: str, patience: float) -> Any:
        """What it says of that.

        :raises MeetingBroken: it did not, in time.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._gone or word in self._said, patience)
            if word not in self._said:
                raise MeetingBroken(f"another client has not said {word!r}")
            return self._said[word]

    def said(self, word: str) -> bool:
        """Whether it has said something of that.

        :raises MeetingBroken: it has not, and has gone.
        """
        with self._changed:
            if self._gone and word not in self._said:
                raise MeetingBroken("another client has gone")
            return word in self._said

    def _listen(self) -> None:
        try:
            with self._link.makefile("rb") as lines:
                for line in lines:
                    words = json.loads(line)
                    self._book.hear(words.pop("floors", {}))
                    with self._changed:
                        self._said.update(words)
                        self._changed.notify_all()
        except (OSError, ValueError):
            pass
        with self._changed:
            self._gone = True
            self._changed.notify_all()


def gather(count: int, address: str, port: int, book: Book) -> list[Peer]:
    """As client[0]: wait for the others.

    :raises MeetingBroken: they do not all come.
    """
    deadline = time.monotonic() + COMING
    peers = []
    with socket.create_server((address, port)) as listener:
        while len(peers) < count:
            listener.settimeout(max(0.01, deadline - time.monotonic()))
            try:
                link, _ = listener.accept()
            except TimeoutError as error:
                message = f"{len(peers)} of {count} other clients came"
                raise MeetingBroken(message) from error
            peers.append(Peer(link, book))
    return peers


def come(address: str, port: int, book: Book) -> Peer:
    """As any other client: go to client[0].

    :raises MeetingBroken: it is not there.
    """
    deadline = time.monotonic() + COMING
    while True:
        try:
            return Peer(socket.create_connection((address, port), 1.0), book)
        except OSError as error:
            if time.monotonic() > deadline:
                raise MeetingBroken(f"client[0] is not at {address}:{port}: {error}") from error
            time.sleep(0.05)


def tell_floors(peers: list[Peer], book: Book, stop: threading.Event) -> None:
    """Go on telling the others what is surely there. Runs in a thread of its own."""
    try:
        while not stop.wait(TELLING):
            for peer in peers:
                peer.say(floors=book.floors())
    except MeetingBroken:
        pass  # whoever waits for the peer's next word finds out


def last_words(peers: list[Peer], book: Book, leads: bool) -> list[Mapping[str, Any]]:
    """The tallies of all clients, this one's too; afterwards all know of every acknowledged write.

    :raises MeetingBroken: one is silent.
    """
    own = [book.tally()]
    if not leads:
        peers[0].say(floors=book.floors(), tallies=own)
        all_tallies: list[Mapping[str, Any]] = peers[0].wait_for("tallies", LAST_WORDS)
        return all_tallies
    tallies = own + [each for peer in peers for each in peer.wait_for("tallies", LAST_WORDS)]
    for peer in peers:
        peer.say(floors=book.floors(), tallies=tallies)
    return tallies
