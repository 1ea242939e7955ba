"""The tools that jobs are made with work in the sandbox, as the job's user."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import attrs
import pytest
import pytest_twisted

from syndicate.domain.job import Limits
from syndicate.sandbox.chroot import ChrootSandbox
from tests.support.sandboxes import Kit, the_reactor, uids
from tests.support.tarballs import source

pytestmark = pytest.mark.system

SYSTEM_PATH = "/usr/local/bin:/usr/bin:/bin"

PYTHON = """
import getpass, socket, sqlite3, ssl
print(getpass.getuser(), socket.gethostbyname(socket.gethostname()))
"""
PERL = "use Socket; use POSIX; print join('.', unpack('C4', inet_aton('master')));"
C = """
#include <stdio.h>
int main(void) { puts("hello"); return 0; }
"""
CXX = """
#include <iostream>
int main() { std::cout << "hello" << std::endl; }
"""
JAVA = """
class X {
    public static void main(String[] words) throws Exception {
        String address = java.net.InetAddress.getLocalHost().getHostAddress();
        System.out.println(System.getProperty("user.name") + " " + address);
    }
}
"""
GO = """
package main
import "fmt"
func main() { fmt.Println("hello") }
"""
GIT = (
    "git init -q repo && cd repo && git -c user.name=x -c user.email=x@y"
    " commit -q --allow-empty -m hello && git log --format=%s"
)

#: Of each tool: files, a command, and what it prints.
TOOLS: dict[str, tuple[dict[str, str], str, str]] = {
    "sh": ({}, "sh -c 'echo hello'", "hello"),
    "bash": ({}, "bash -c 'echo ${BASH_VERSION:+hello}; exec 3<>/dev/null'", "hello"),
    "awk": ({}, "awk 'BEGIN { print toupper(\"hello\") }'", "HELLO"),
    "sed": ({}, "echo hallo | sed s/a/e/", "hello"),
    "perl": ({"x.pl": PERL}, "perl x.pl", "10.9.8.7"),
    "python3": ({"x.py": PYTHON}, "/usr/bin/python3 x.py", "job 10.9.8.7"),
    "cc": ({"x.c": C}, "cc -O2 -o bin/x x.c && x", "hello"),
    "c++": ({"x.cc": CXX}, "c++ -o x x.cc && ./x", "hello"),
    "javac": ({"X.java": JAVA}, "javac X.java && java X", "job 10.9.8.7"),
    "go": ({"x.go": GO}, "go build -o bin/x x.go && bin/x", "hello"),
    "node": ({}, "node -e 'console.log(\"hello\")'", "hello"),
    "git": ({}, GIT, "hello"),
    "openssl": ({}, "test -e /etc/ssl/certs/ca-certificates.crt && echo there", "there"),
    "getent": ({}, "getent hosts slave0 | tr -s ' '", "10.9.8.8 slave0"),
}


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One for all, so that the skeleton is made once."""
    return tmp_path_factory.mktemp("tools")


@pytest.fixture(params=[pytest.param("root", marks=pytest.mark.needs_root), "user"])
def kit(request: pytest.FixtureRequest, directory: Path) -> Iterator[Kit]:
    """A sandbox of either mode."""
    state = directory / request.param
    kit = Kit(ChrootSandbox(the_reactor(), state, "tools", uids(20), request.param), directory)
    pytest_twisted.blockon(kit.sandbox.probe())
    yield kit
    pytest_twisted.blockon(kit.sandbox.close())


@pytest.mark.deadline(90)
@pytest.mark.parametrize("tool", TOOLS)
@pytest_twisted.ensureDeferred
async def test_the_tool_works(kit: Kit, tool: str) -> None:
    if not shutil.which(tool, path=SYSTEM_PATH):
        pytest.skip(f"this host has no {tool} in {SYSTEM_PATH}")
    files, command, wanted = TOOLS[tool]
    place = kit.directory / "tool.tar.gz"
    makefile = f"master:\n\t@{command.replace('$', '$$')}\n"
    plot = kit.plot(
        source=place,
        sha256=source(place, {"Makefile": makefile, **files}),
        limits=Limits(memory=2 << 30, disk=300 << 20),
    )
    hosts = (("master", "10.9.8.7"), ("slave0", "10.9.8.8"))
    enclosure = await kit.sandbox.prepare(attrs.evolve(plot, hosts=hosts))
    run = await enclosure.start(["make", "-s", "master"], {}, kit.take)
    ended = await run.wait()
    assert (ended.code, kit.printed[1].decode().strip()) == (0, wanted), kit.printed[2].decode()
