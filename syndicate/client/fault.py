#!/usr/bin/python3 -IS
"""``syndicate-fault``: a benchmark client's power over its own job, for shells.

One script beside the library ``sync.py``, with nothing but the standard library; it starts fast,
so it reads its own command line.
"""

from __future__ import annotations

import json
import os
import sys

if not __package__:  # run as a script, which the sandbox shows beside the library
    _top = os.path.dirname(os.path.dirname(os.path.realpath(__file__)))
    sys.path.insert(0, os.path.join(_top, "lib"))

from syndicate.client import sync

# Not from typing, whose import takes its time too; type checkers believe the name.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

REFUSED, USAGE, NO_DOOR = 1, 2, 69

HELP = """\
Usage: syndicate-fault [-o json] VERB ...

A benchmark client hurts the machines of its own job. A machine is given by its name (slave[0],
or slave0, which needs no quotes), or by its address. A fault is in force, and was verified, when
the command returns.

  kill MACHINE...                    kill every process
  revive [--no-disk] MACHINE...      start its target again; --no-disk: on an emptied disk
  disconnect MACHINE...              cut it off from every master and slave
  reconnect MACHINE...               undo that
  pause MACHINE... / resume MACHINE...
  partition GROUP GROUP...           groups such as master,slave0 that do not reach each other
    --shape split|bridge|ring        --one-way
  loss PERCENT MACHINE...            lose some of the packets that it sends
  rate BYTES MACHINE...              let it send so many bytes a second: 100K
  delay TIME MACHINE...              hold back what it sends: 50ms
  heal [FAULT...]                    undo these faults, such as f3, or all

  --for TIME    with a fault: it heals by itself after so long, such as 10s

  job                                the machines and how they are
  faults                             what became of all faults
  show FAULT...                      what became of these, such as f3; or by the key of the call
  events [--after N]                 what has happened, and what happens until the job is over
  mark NAME                          note a moment among the events
  sample OPERATION MS [--failed]     note a measurement, in milliseconds
  finish [--passed|--failed] [--score N] [--notes TEXT]

Exit status: 0 done, 1 refused, 2 wrong use, 69 no door (this is no benchmark client).
"""

#: For each verb the options it takes, and whether they take a value.
LASTING = {"--for": True}
OPTIONS: dict[str, dict[str, bool]] = {
    "kill": LASTING,
    "revive": {"--no-disk": False},
    "disconnect": LASTING,
    "reconnect": {},
    "pause": LASTING,
    "resume": {},
    "partition": {"--shape": True, "--one-way": False, **LASTING},
    "loss": LASTING,
    "rate": LASTING,
    "delay": LASTING,
    "heal": {},
    "job": {},
    "faults": {},
    "show": {},
    "events": {"--after": True},
    "mark": {},
    "sample": {"--failed": False},
    "finish": {"--passed": False, "--failed": False, "--score": True, "--notes": True},
}
#: What stands before the machines.
AMOUNTS = {"loss": "percent", "rate": "rate", "delay": "delay"}


class Misuse(Exception):
    """The command line is none."""


def main(arguments: list[str]) -> int:
    """Run a command line; gives the exit status."""
    try:
        verb, words, options = read(arguments)
        if verb == "help":
            sys.stdout.write(HELP)
            return 0
        wire = sync.Wire()
        if verb == "events":
            return show_events(wire, options)
        for request in requests(verb, words, options):
            status, body = wire.ask(*request)
            if status != 200:
                show_refusal(body, options)
                return REFUSED
            show(verb, body, options)
    except Misuse as error:
        sys.stderr.write(f"syndicate-fault: {error}; see: syndicate-fault --help\n")
        return USAGE
    except sync.NoDoor as error:
        sys.stderr.write(f"syndicate-fault: {error}\n")
        return NO_DOOR
    except sync.SyndicateError as error:
        sys.stderr.write(f"syndicate-fault: {error.code}: {error}\n")
        return REFUSED
    return 0


def read(arguments: list[str]) -> tuple[str, list[str], dict[str, Any]]:
    """The verb of a command line, its words, and its options.

    :raises Misuse: it is none.
    """
    words: list[str] = []
    options: dict[str, Any] = {}
    left = iter(arguments)
    known = {"-o": True, "--output": True, "-h": False, "--help": False}
    for word in left:
        if word == "--":
            words += left
        elif word.startswith("-") and not _is_number(word):
            name, given, value = word.partition("=")
            if name not in known:
                raise Misuse(f"{words[0] if words else 'it'} takes no {name}")
            options[name] = _value(name, value if given else None, left) if known[name] else True
        else:
            words.append(word)
            if len(words) == 1:
                known.update(OPTIONS.get(word, {}))
    if not words or "-h" in options or "--help" in options:
        if not words and not options:
            raise Misuse("what shall be done?")
        return "help", [], options
    if words[0] not in OPTIONS:
        raise Misuse(f"{words[0]!r} is nothing that can be done")
    options["json"] = _wants_json(options.get("-o", options.get("--output", "text")))
    return words[0], words[1:], options


def _value(name: str, given: str | None, left: Iterator[str]) -> str:
    value = next(left, None) if given is None else given
    if value is None:
        raise Misuse(f"{name} needs a value")
    return value


def _wants_json(output: str) -> bool:
    if output not in ("text", "json"):
        raise Misuse(f"the output is text or json, not {output!r}")
    return output == "json"


def _is_number(word: str) -> bool:
    return word[1:2].isdigit() or word[1:2] == "."


def requests(
    verb: str, words: list[str], options: dict[str, Any]
) -> Iterator[tuple[str, str, bytes]]:
    """The requests that a command stands for: method, path and body.

    :raises Misuse: it has too few words, or too many, or one that is no number.
    """
    if verb in ("job", "faults"):
        _expect(words, 0, 0, "no words")
        yield "GET", f"/v1/{verb}", b""
    elif verb == "show":
        _expect(words, 1, None, "a fault such as f3")
        for fault in words:
            if not fault.isascii() or not fault.replace("-", "").isalnum():
                raise Misuse(f"{fault!r} is no fault such as f3")
            yield "GET", f"/v1/faults/{fault}", b""
    elif verb == "mark":
        _expect(words, 1, 1, "one name")
        yield _post("/v1/marks", {"name": words[0]})
    elif verb == "finish":
        _expect(words, 0, 0, "no words")
        yield _post("/v1/finish", _result(options))
    elif verb == "sample":
        _expect(words, 2, 2, "an operation and the milliseconds it took")
        try:
            line = sync.sample_line(words[0], _number(words[1]), "--failed" not in options, None)
        except ValueError as error:
            raise Misuse(str(error)) from None
        yield "POST", "/v1/samples", line.encode()
    elif verb == "heal":
        if not words:
            yield _post("/v1/heal", {})
        for fault in words:
            yield _post("/v1/faults/heal", {"id": fault})
    elif verb == "partition":
        _expect(words, 1, None, "groups such as master,slave0")
        groups = [word.split(",") for word in words]
        one_way = True if "--one-way" in options else None
        more = {"groups": groups, "shape": options.get("--shape"), "one_way": one_way}
        yield _fault(verb, None, options, **more)
    else:
        yield from _of_machines(verb, words, options)


def _of_machines(
    verb: str, words: list[str], options: dict[str, Any]
) -> Iterator[tuple[str, str, bytes]]:
    more: dict[str, Any] = {}
    if verb in AMOUNTS:
        _expect(words, 2, None, f"the {AMOUNTS[verb]}, then machines")
        amount = words.pop(0)
        more[AMOUNTS[verb]] = _number(amount.rstrip("%")) if verb == "loss" else amount
    _expect(words, 1, None, "a machine")
    if verb == "revive":
        more["with_disk"] = "--no-disk" not in options
    for machine in words:
        yield _fault(verb, machine, options, **more)


def _expect(words: list[str], least: int, most: int | None, what: str) -> None:
    if len(words) < least or (most is not None and len(words) > most):
        raise Misuse(f"it takes {what}, not {' '.join(words) or 'nothing'}")


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise Misuse(f"{text!r} is no number") from None


def _result(options: dict[str, Any]) -> dict[str, Any]:
    if "--passed" in options and "--failed" in options:
        raise Misuse("it has either --passed or --failed")
    result: dict[str, Any] = {"passed": "--failed" not in options}
    if "--score" in options:
        result["score"] = _number(options["--score"])
    if "--notes" in options:
        result["notes"] = options["--notes"]
    return result


def _fault(
    verb: str, machine: str | None, options: dict[str, Any], **more: Any
) -> tuple[str, str, bytes]:
    return _post(f"/v1/faults/{verb}", sync.fault_body(machine, for_=options.get("--for"), **more))


def _post(path: str, value: dict[str, Any]) -> tuple[str, str, bytes]:
    return "POST", path, json.dumps(value).encode()


def show_refusal(body: bytes, options: dict[str, Any]) -> None:
    """Say why the door refused: the JSON to the output if it is wanted, and a sentence."""
    if options["json"]:
        sys.stdout.write(body.decode())
    try:
        error = sync.error_of(json.loads(body)["error"])
    except (ValueError, KeyError, TypeError):
        error = sync.error_of(None)
    sys.stderr.write(f"syndicate-fault: {error.code}: {error}\n")


def show(verb: str, body: bytes, options: dict[str, Any]) -> None:
    """Print an answer: the JSON just as it is, or lines for people."""
    if options["json"]:
        sys.stdout.write(body.decode())
        return
    value = json.loads(body)
    if verb == "job":
        sys.stdout.write(f"job {value['job']}, attempt {value['attempt']}; I am {value['me']}\n")
        for machine in value["machines"]:
            up, cut = ("up" if machine["up"] else "down"), (" cut" if machine["cut"] else "")
            sys.stdout.write(f"{machine['name']:<10} {machine['ip']:<15} {up}{cut}\n")
    elif verb == "faults":
        for fault in value["faults"]:
            _show_fault(fault)
    elif "id" in value:
        _show_fault(value)
    elif verb == "heal":
        sys.stdout.write(f"healed: {' '.join(value['healed']) or 'nothing was in force'}\n")


def _show_fault(fault: dict[str, Any]) -> None:
    machines = " ".join(fault["machines"])
    sys.stdout.write(f"{fault['id']:<4} {fault['kind']:<10} {fault['state']:<9} {machines}\n")


def show_events(wire: sync.Wire, options: dict[str, Any]) -> int:
    """Print events as they happen, one on each line."""
    after = options.get("--after", "0")
    if not after.isdigit():
        raise Misuse(f"--after needs the number of an event, not {after!r}")
    for event in wire.follow(int(after)):
        line = json.dumps(event) if options["json"] else f"{event['at']} {event['text']}"
        sys.stdout.write(line + "\n")
        sys.stdout.flush()
    return 0


def run() -> None:
    """The program."""
    try:
        status = main(sys.argv[1:])
        sys.stdout.flush()
    except KeyboardInterrupt:
        status = 130
    except BrokenPipeError:  # whoever reads our output has had enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        status = 141
    sys.exit(status)


if __name__ == "__main__":
    run()
