"""The master: hands out files, joins what the slaves make of them, and checks the result.

Exit status: 0 when the slaves' index equals the master's own, 1 when it does not or the work
could not be done.
"""

from __future__ import annotations

import argparse
import json
import os
import socket
import sys
import threading
import time
from pathlib import Path
from typing import Any

import counting
import talk
from board import Board, Hopeless, Task

#: Bytes of source in one map task, roughly.
TASK_SIZE = 128 << 10
#: Seconds to wait for all slaves, for one task, and for a new slave when none is left.
COMING, ANSWER, LONELY = 30.0, 20.0, 15.0


class SlaveLog:
    """What one slave has done."""

    def __init__(self, me: dict[str, Any], address: str) -> None:
        self.me, self.address = me, address
        self.files = self.words = self.partitions = 0

    def count(self, task: Task, result: dict[str, Any]) -> None:
        """Add a finished task."""
        if task["do"] == "map":
            self.files += len(task["files"])
            self.words += result["words"]
        else:
            self.partitions += 1

    def as_json(self) -> dict[str, Any]:
        """For the result file."""
        share = {"files": self.files, "words": self.words, "partitions": self.partitions}
        return {**self.me, "seen_from": self.address, **share}


class Door:
    """Lets slaves in, and serves each in a thread of its own."""

    def __init__(self, board: Board, port: int) -> None:
        self.slaves: list[SlaveLog] = []
        self._board = board
        self._threads: list[threading.Thread] = []
        self._listener = socket.create_server(("", port), backlog=64)
        threading.Thread(target=self._let_in, daemon=True).start()

    def _let_in(self) -> None:
        while True:
            link, (address, _) = self._listener.accept()
            thread = threading.Thread(target=self._serve, args=(link, address), daemon=True)
            thread.start()
            self._threads.append(thread)

    def _serve(self, link: socket.socket, address: str) -> None:
        link.settimeout(ANSWER)
        with link:
            try:
                log = SlaveLog(talk.receive(link), address)
            except talk.LinkBroken:
                return
            self.slaves.append(log)
            talk.say(
                f"{log.me['machine']} has come from {address} ({self._board.slave_came()} here)"
            )
            try:
                while self._one_task(link, log):
                    pass
            except talk.LinkBroken as error:
                talk.say(f"{log.me['machine']} is lost: {error}")
            finally:
                self._board.slave_left()

    def _one_task(self, link: socket.socket, log: SlaveLog) -> bool:
        task = self._board.take()
        if task is None:
            talk.send(link, {"do": "stop"})
            return False
        try:
            talk.send(link, task)
            result = talk.receive(link)
        except talk.LinkBroken:
            self._board.give_back(task)
            raise
        log.count(task, result)
        self._board.done(task, result)
        return True

    def say_goodbye(self) -> None:
        """Wait until every slave was told to stop, but not for ever."""
        deadline = time.monotonic() + 5
        for thread in self._threads:
            thread.join(max(0.0, deadline - time.monotonic()))


def read_corpus(directory: Path) -> dict[str, str]:
    """The text of all Python files below a directory, by their names in it.

    :raises Hopeless: there is none.
    """
    files = {
        str(path.relative_to(directory)): path.read_text(encoding="utf-8", errors="replace")
        for path in sorted(directory.rglob("*.py"))
        if path.is_file() and os.access(path, os.R_OK)
    }
    if not files:
        raise Hopeless(f"there is no Python source in {directory}")
    return files


def map_tasks(files: dict[str, str], partitions: int) -> list[Task]:
    """Cut the files into tasks of about `TASK_SIZE`."""
    groups: list[dict[str, str]] = [{}]
    room = TASK_SIZE
    for name, text in files.items():
        if room < 0:
            groups.append({})
            room = TASK_SIZE
        groups[-1][name] = text
        room -= len(text)
    return [
        {"do": "map", "id": f"map-{number}", "files": group, "partitions": partitions}
        for number, group in enumerate(groups)
    ]


def index_by_slaves(board: Board, files: dict[str, str], partitions: int) -> counting.Index:
    """Have the slaves make the index.

    :raises Hopeless: they could not.
    """
    mapped = board.run("map", map_tasks(files, partitions), LONELY)
    reduce_tasks = [
        {"do": "reduce", "id": f"reduce-{n}", "parts": [result["parts"][n] for result in mapped]}
        for n in range(partitions)
    ]
    index: counting.Index = {}
    for result in board.run("reduce", reduce_tasks, LONELY):
        index.update(result["index"])
    return index


def work(board: Board, port: int, files: dict[str, str]) -> dict[str, Any]:
    """Wait for the slaves, have the index made, and compare it.

    :returns: the result, as it is written to the result file.
    :raises Hopeless: the slaves could not make an index.
    """
    expected = int(os.environ.get("SYNDICATE_MACHINES", "2")) - 1
    if expected < 1:
        raise Hopeless("a job of one machine has no slave; ask for two machines or more")
    talk.say(f"{len(files):,} files; waiting for {expected} slaves on port {port}")
    door = Door(board, port)
    try:
        partitions = 2 * board.wait_for_slaves(expected, COMING)
        index = index_by_slaves(board, files, partitions)
    finally:
        board.close()
        door.say_goodbye()
    talk.say("checking against a count of my own")
    return {
        "agrees": index == counting.index_of_all(files),
        "files": len(files),
        **counting.totals(index),
        "top": counting.top_words(index, 6),
        "slaves": [slave.as_json() for slave in sorted(door.slaves, key=lambda s: s.me["machine"])],
    }


def report(result: dict[str, Any]) -> None:
    """Print the result for people."""
    talk.say()
    for name in ("files", "words", "distinct_words", "entries"):
        talk.say(f"  {name.replace('_', ' '):<15}{result[name]:>12,}")
    top = " ".join(f"{word}={count:,}" for word, count in result["top"])
    talk.say(f"  top words       {top}")
    talk.say(f"  {'slave':<10} {'address':<15} {'files':>6} {'words':>10} {'partitions':>10}")
    for slave in result["slaves"]:
        share = f"{slave['files']:>6,} {slave['words']:>10,} {slave['partitions']:>10}"
        talk.say(f"  {slave['machine']:<10} {slave['seen_from']:<15} {share}")
    talk.say()


def main() -> int:
    """Run the master; returns its exit status."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--port", type=int, required=True)
    options.add_argument("--corpus", type=Path, required=True)
    options.add_argument("--result", type=Path, required=True)
    given = options.parse_args()
    started = time.monotonic()
    me = talk.describe_me("any address")
    talk.say(f"I am {talk.say_who(me)}")
    try:
        result = work(Board(), given.port, read_corpus(given.corpus))
    except Hopeless as error:
        print(f"master: {error}", file=sys.stderr)
        return 1
    result["master"] = me
    result["seconds"] = round(time.monotonic() - started, 3)
    given.result.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    report(result)
    if not result["agrees"]:
        print("master: the slaves' index differs from a count of my own", file=sys.stderr)
        return 1
    talk.say(f"the slaves' index equals a single-process one ({result['seconds']:.1f} s in all)")
    return 0


if __name__ == "__main__":
    sys.exit(main())
