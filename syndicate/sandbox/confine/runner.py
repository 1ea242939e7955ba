"""Running a program, and collecting its files, inside namespaces of its own.

The launcher stays outside and waits for the first process (the init) of the new PID namespace.
``waitpid`` on that one returns only when the namespace is empty: so the end of the launcher proves
that nothing of the run is left, however it detached itself.
"""

from __future__ import annotations

import errno
import os
import select

from syndicate.sandbox.confine import channel, privileges, root, syscalls
from syndicate.sandbox.tarstream import Refused

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import NoReturn

    from syndicate.sandbox.orders import CollectOrder, RunOrder

#: Bytes left on a disk that is full: what a file system keeps from its users varies by a little.
_NO_ROOM = 128 << 10
#: Exit code of a launcher that could not set up the place: the fault of the host.
SETUP_FAILED = 125
#: Exit code when the program could not be executed.
NOT_EXECUTED = 127

_NAMESPACES = (
    syscalls.CLONE_NEWNS | syscalls.CLONE_NEWPID | syscalls.CLONE_NEWIPC | syscalls.CLONE_NEWUTS
)


def run(order: RunOrder) -> NoReturn:
    """Run the program of the order; ends this process as the program ended."""
    with_end = syscalls.block(syscalls.SIGTERM, syscalls.SIGCHLD)
    if order["identity"]["mode"] == "user":
        privileges.enter_user_namespace(order["identity"]["uid"])
        syscalls.die_with_parent()
    alive, held = os.pipe()
    syscalls.unshare(_NAMESPACES)
    init = os.fork()
    if init == 0:
        os.close(held)
        _guarded(lambda: _be_init(order, alive))
    os.close(alive)
    channel.say("init", init)
    os.close(channel.CHANNEL)
    _leave_as(_wait_for(init, with_end))


def enclose(order: CollectOrder, work: Callable[[], None]) -> NoReturn:
    """Do some work of ours as the job's user in the job's place; ends this process."""
    with_end = syscalls.block(syscalls.SIGTERM, syscalls.SIGCHLD)
    if order["identity"]["mode"] == "user":
        privileges.enter_user_namespace(order["identity"]["uid"])
        syscalls.die_with_parent()
    syscalls.unshare(_NAMESPACES)
    child = os.fork()
    if child == 0:
        _guarded(lambda: _be_worker(order, work))
    _leave_as(_wait_for(child, with_end))


def _guarded(part: Callable[[], None]) -> NoReturn:
    """Run a forked child's part and report whatever goes wrong."""
    try:
        part()
        os._exit(0)
    except Refused as refusal:
        channel.say("refused", refusal)
        os._exit(0)
    except BaseException as error:  # noqa: BLE001  (a forked child must never return)
        channel.say_failed(error)
        os._exit(SETUP_FAILED)


def _be_worker(order: CollectOrder, work: Callable[[], None]) -> None:
    syscalls.die_with_parent()
    syscalls.reset_signals()
    root.enter(order["place"], order["identity"])
    privileges.drop(order["identity"])
    work()


def _be_init(order: RunOrder, alive: int) -> None:
    """Build the place, give up all rights, start the program and reap until it has ended."""
    syscalls.die_with_parent()
    syscalls.reset_signals()
    write("/proc/self/oom_score_adj", "500")  # if the host runs short, the job goes first
    syscalls.set_hostname(order["hostname"])
    root.enter(order["place"], order["identity"])
    privileges.set_limits(order["rlimits"])
    privileges.drop(order["identity"])
    poll = select.poll()
    poll.register(alive, 0)
    if poll.poll(0):  # the launcher went before its death could reach us
        os._exit(SETUP_FAILED)
    os.close(alive)
    os.umask(0o022)
    privileges.wall_in(order["walls"])
    status = _run_program(order)
    if os.WIFSIGNALED(status):
        os._exit(128 + os.WTERMSIG(status))
    os._exit(os.WEXITSTATUS(status))


def write(path: str, text: str) -> None:
    """Write to a file of the kernel's."""
    file = os.open(path, os.O_WRONLY)
    os.write(file, text.encode())
    os.close(file)


def _run_program(order: RunOrder) -> int:
    """Start the program and wait for its end, or with ``linger`` for the end of all.

    :returns: the program's own wait status.
    """
    failure, told = os.pipe()
    program = os.fork()
    if program == 0:
        _execute(order, told)
    os.close(told)
    said = os.read(failure, 16)
    if said:
        problem = OSError(int(said), f"cannot execute {order['argv'][0]!r}")
        channel.say("failed", int(said), f"{problem.strerror}: {os.strerror(int(said))}")
        os._exit(NOT_EXECUTED)
    channel.say("executed")
    status = None
    while status is None or order["linger"]:
        try:
            ended, how = os.waitpid(-1, 0)
        except ChildProcessError:
            break
        if ended == program:
            status = how
            if short := _used_up():
                channel.say("short", *short)
            if os.WIFSIGNALED(how):
                channel.say("ended", "signal", os.WTERMSIG(how))
            else:
                channel.say("ended", "code", os.WEXITSTATUS(how))
    return status or 0


def _used_up() -> list[str]:
    """What of the machine's disk and memory for files has no room left."""
    found = []
    disk = os.statvfs("/")  # of an overlay that is what its upper layer has
    if disk.f_bavail * disk.f_frsize < _NO_ROOM:
        found.append("disk")
    if disk.f_files and not disk.f_ffree:
        found.append("inodes")
    try:
        memory = os.statvfs("/dev/shm")
    except OSError:  # the job has moved things about
        return found
    if memory.f_blocks and not (memory.f_bavail and memory.f_ffree):
        found.append("/dev/shm")
    return found


def _execute(order: RunOrder, told: int) -> NoReturn:
    """Become the program; on failure tell the errno."""
    try:
        os.setsid()
        os.dup2(told, 3, inheritable=False)
        os.closerange(4, 65536)
        number = _exec_on_path(order["argv"], order["env"])
        os.write(3, str(number).encode())
    finally:
        os._exit(NOT_EXECUTED)


def _exec_on_path(argv: list[str], env: dict[str, str]) -> int:
    """As ``os.execvpe``, which imports a module first, and there is none to be had here.

    :returns: the errno, as it only returns on failure.
    """
    name = argv[0]
    directories = [""] if "/" in name else env.get("PATH", "/usr/bin:/bin").split(":")
    worst = errno.ENOENT
    for directory in directories:
        try:
            os.execve(os.path.join(directory, name), argv, env)
        except OSError as error:
            if error.errno not in (errno.ENOENT, errno.ENOTDIR):
                worst = error.errno or errno.EIO
    return worst


def _wait_for(child: int, signals: syscalls.Signals) -> int:
    """Wait for a child; SIGTERM to us is SIGKILL to it. Returns its wait status."""
    while True:
        ended, status = os.waitpid(child, os.WNOHANG)
        if ended:
            return status
        if syscalls.wait_signal(signals) == syscalls.SIGTERM:
            os.kill(child, syscalls.SIGKILL)


def _leave_as(status: int) -> NoReturn:
    """End with the same exit code, or by the same signal, as the child did."""
    if os.WIFSIGNALED(status):
        syscalls.reset_signals()
        os.kill(os.getpid(), os.WTERMSIG(status))
    os._exit(os.WEXITSTATUS(status))
