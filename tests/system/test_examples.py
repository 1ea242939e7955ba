"""The examples by plain ``make`` on this machine, without Syndicate: master and slaves on
loopback, with the environment that Syndicate would give them.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import attrs
import pytest

from syndicate.cli.jobfile import draft
from syndicate.domain.makefile import missing

EXAMPLES = Path(__file__).parents[2] / "examples"

#: For everything that one test starts; a compiler on a busy machine takes its time.
PATIENCE = 40.0

pytestmark = [pytest.mark.deadline(PATIENCE + 10)]


@attrs.frozen
class Ended:
    """What became of one ``make``."""

    code: int
    out: str


@attrs.define
class Bench:
    """Starts the targets of one example, which lies in a folder of the test's own."""

    place: Path
    machines: int
    port: int
    _running: list[subprocess.Popen[str]] = attrs.field(factory=list)

    def start(self, machine: str, *words: str) -> subprocess.Popen[str]:
        """Run ``make`` with these words, as Syndicate would on a machine of that name."""
        environment = {
            "PATH": "/usr/local/bin:/usr/bin:/bin",
            "LANG": "C.UTF-8",
            "HOME": str(self.place),
            "TMPDIR": str(self.place.parent),  # Go takes no source that lies in it
            "SYNDICATE_JOB": "1",
            "SYNDICATE_ATTEMPT": "1",
            "SYNDICATE_MACHINE": machine,
            "SYNDICATE_MACHINES": str(self.machines),
            "SYNDICATE_ADDRESS": "127.0.0.1",
        }
        process = subprocess.Popen(
            ["make", f"PORT={self.port}", *words],
            cwd=self.place,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        self._running.append(process)
        return process

    def run_all(self, *words: str) -> list[Ended]:
        """Run the master and all its slaves to their end; the master's comes first."""
        started = [self.start("master", *words, "master")]
        started += [
            self.start(f"slave[{number}]", *words, "MASTER=127.0.0.1", "slave")
            for number in range(self.machines - 1)
        ]
        return [ended(process) for process in started]

    def stop(self) -> None:
        """Kill whatever still runs."""
        for process in self._running:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.communicate()


def ended(process: subprocess.Popen[str]) -> Ended:
    out, _ = process.communicate(timeout=PATIENCE)
    return Ended(process.returncode, out)


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Callable[..., Bench]]:
    made: list[Bench] = []

    def make(example: str, machines: int) -> Bench:
        if shutil.which("make") is None:
            pytest.skip("needs make")
        place = tmp_path / example
        shutil.copytree(EXAMPLES / example, place)
        with socket.create_server(("127.0.0.1", 0)) as listener:
            port = listener.getsockname()[1]
        made.append(Bench(place, machines, port))
        return made[-1]

    yield make
    for one in made:
        one.stop()


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    """A little of this Python's library, so that the test is about more than three words."""
    place = tmp_path / "corpus"
    place.mkdir()
    library = Path(os.__file__).parent
    for name in sorted(path.name for path in library.glob("[a-c]*.py")):
        shutil.copy(library / name, place / name)
    return place


def test_hello_says_where_its_machines_are(bench: Callable[..., Bench]) -> None:
    master, slave = bench("hello", machines=2).run_all()
    assert master.code == slave.code == 0
    assert "Hello from master at 127.0.0.1, one of 2 machines" in master.out
    assert "Hello from slave[0] at 127.0.0.1; my master is at 127.0.0.1" in slave.out
    assert f"I am uid {os.getuid()}" in slave.out


def test_mapreduce_finds_what_a_single_process_finds(
    bench: Callable[..., Bench], corpus: Path
) -> None:
    mapreduce = bench("mapreduce", machines=3)
    all_ended = mapreduce.run_all(f"CORPUS={corpus}", f"PYTHON={sys.executable}")
    assert [one.code for one in all_ended] == [0, 0, 0], all_ended
    result = json.loads((mapreduce.place / "result.json").read_text())
    assert result["agrees"] is True
    assert result["files"] == len(list(corpus.iterdir()))
    assert {slave["machine"] for slave in result["slaves"]} == {"slave[0]", "slave[1]"}
    assert sum(slave["files"] for slave in result["slaves"]) == result["files"]
    assert sum(slave["words"] for slave in result["slaves"]) == result["words"]
    assert {slave["uid"] for slave in result["slaves"]} == {os.getuid()}


def test_mapreduce_hands_the_work_of_a_dead_slave_to_another(
    bench: Callable[..., Bench], corpus: Path
) -> None:
    mapreduce = bench("mapreduce", machines=3)
    words = (f"CORPUS={corpus}", f"PYTHON={sys.executable}")
    master = mapreduce.start("master", *words, "master")
    dead = mapreduce.start("slave[0]", f"PYTHON={dying_slave(mapreduce)}", "MASTER=-", "slave")
    good = mapreduce.start("slave[1]", *words, "MASTER=127.0.0.1", "slave")
    assert ended(dead).out == "took a task with it\n"
    assert ended(good).code == 0
    told = ended(master)
    assert told.code == 0, told
    assert "slave[0] is lost" in told.out
    result = json.loads((mapreduce.place / "result.json").read_text())
    assert {slave["machine"]: slave["files"] for slave in result["slaves"]} == {
        "slave[0]": 0,
        "slave[1]": result["files"],
    }


def dying_slave(mapreduce: Bench) -> Path:
    """Stands in for the slave's Python: takes one task, and is gone."""
    program = mapreduce.place / "dying"
    program.write_text(
        f"#!{sys.executable}\n"
        "import slave, talk\n"
        f"with slave.connect('127.0.0.1', {mapreduce.port}, 30.0) as link:\n"
        "    talk.send(link, talk.describe_me('127.0.0.1'))\n"
        "    talk.receive(link)\n"
        "print('took a task with it')\n"
    )
    program.chmod(0o755)
    return program


def test_mapreduce_fails_when_the_slaves_index_is_wrong(
    bench: Callable[..., Bench], corpus: Path
) -> None:
    mapreduce = bench("mapreduce", machines=2)
    liar = mapreduce.place / "slave.py"
    honest = liar.read_text()
    liar.write_text(
        honest.replace('reduce_parts(task["parts"])', 'reduce_parts(task["parts"][1:])')
    )
    assert liar.read_text() != honest
    master, slave = mapreduce.run_all(f"CORPUS={corpus}", f"PYTHON={sys.executable}")
    assert slave.code == 0, slave
    assert master.code != 0
    assert "the slaves' index differs from a count of my own" in master.out


def test_c_echo_is_built_and_every_ping_comes_back(bench: Callable[..., Bench]) -> None:
    if shutil.which("gcc") is None:
        pytest.skip("needs gcc")
    echo = bench("c-echo", machines=3)
    built = ended(echo.start("by hand", "build/echo"))  # once: here all share one folder
    assert built.code == 0, built
    all_ended = echo.run_all("PINGS=50")
    assert [one.code for one in all_ended] == [0, 0, 0], all_ended
    assert "2 of 2 slaves sent all their 50 pings" in all_ended[0].out


def test_go_echo_works_or_says_that_there_is_no_go(bench: Callable[..., Bench]) -> None:
    echo = bench("go-echo", machines=2)
    built = ended(echo.start("by hand", "bin/go-echo"))
    all_ended = echo.run_all("PINGS=50")
    assert [one.code for one in all_ended] == [0, 0], all_ended
    if "Skipped: there is no go command" in all_ended[0].out:
        pytest.skip("needs go; the example said so")
    assert built.code == 0, built
    assert "1 of 1 slaves sent all their 50 pings" in all_ended[0].out


def test_every_job_file_names_sources_that_have_the_targets() -> None:
    jobs = sorted(EXAMPLES.glob("*/job.toml"))
    names = {path.parent.name for path in jobs}
    assert names >= {"hello", "mapreduce", "c-echo", "go-echo", "kvstore", "kvstore-wrong"}
    for path in jobs:
        job = draft(path, ())
        assert missing((job.source / "Makefile").read_bytes(), ("master", "slave")) == (), path
        if job.client is not None:
            assert missing((job.client / "Makefile").read_bytes(), ("client",)) == (), path


def test_the_wrong_store_is_the_right_one_but_for_a_word() -> None:
    right, wrong = (draft(EXAMPLES / name, ()) for name in ("kvstore", "kvstore-wrong"))
    assert wrong.source.resolve() == right.source.resolve()
    assert wrong.client is not None
    assert right.client is not None
    assert wrong.client.resolve() == right.client.resolve() == EXAMPLES / "kvbench"
    assert wrong.spec == {**right.spec, "name": "kvstore-wrong", "env": {"ACKNOWLEDGE": "early"}}
