"""What every sandbox promises, and what every sandbox of real processes does besides."""

from __future__ import annotations

import contextlib
import io
import os
import tarfile
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import attrs
import pytest
import pytest_twisted
from twisted.internet.defer import CancelledError
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.task import deferLater
from zope.interface.verify import verifyObject

from syndicate.domain.errors import (
    Conflict,
    InvalidSource,
    SandboxFailed,
    StorageFull,
    SyndicateError,
    TooLarge,
)
from syndicate.domain.job import Limits
from syndicate.sandbox.chroot import ChrootSandbox
from syndicate.sandbox.interface import WALLS, Collected, Exit, IEnclosure, IRun, ISandbox
from syndicate.sandbox.memory import MemorySandbox
from tests.support.sandboxes import MAKEFILE, NAP, Kit, Program, sleepers, the_reactor, uids, until
from tests.support.tarballs import archive, member, source, symlink


def _memory(directory: Path) -> Kit:
    programs: dict[str, Program] = {}
    sandbox = MemorySandbox(the_reactor(), lambda run: programs[run.argv[-1]].act(run))
    return Kit(sandbox, directory, programs)


def _chroot(mode: str) -> Callable[[Path], Kit]:
    def make(directory: Path) -> Kit:
        sandbox = ChrootSandbox(the_reactor(), directory / "state", "contract", uids(0), mode)
        return Kit(sandbox, directory, {})

    return make


REAL = [
    pytest.param(_chroot("root"), id="root", marks=pytest.mark.needs_root),
    pytest.param(_chroot("user"), id="user"),
]


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One for all, so that the skeleton is made once."""
    return tmp_path_factory.mktemp("sandbox")


def _open(request: pytest.FixtureRequest, directory: Path) -> Iterator[Kit]:
    kit = request.param(directory)
    pytest_twisted.blockon(kit.sandbox.sweep())
    pytest_twisted.blockon(kit.sandbox.probe())
    yield kit
    pytest_twisted.blockon(kit.sandbox.close())


@pytest.fixture(params=[pytest.param(_memory, id="memory"), *REAL])
def kit(request: pytest.FixtureRequest, directory: Path) -> Iterator[Kit]:
    """Each sandbox in turn."""
    yield from _open(request, directory)


@pytest.fixture(params=REAL)
def real(request: pytest.FixtureRequest, directory: Path) -> Iterator[Kit]:
    """Each sandbox of real processes in turn."""
    yield from _open(request, directory)


@pytest_twisted.ensureDeferred
async def test_each_part_has_the_shape_of_its_interface(kit: Kit) -> None:
    verifyObject(ISandbox, kit.sandbox)
    enclosure = await kit.prepare()
    verifyObject(IEnclosure, enclosure)
    run = await kit.start(enclosure, ("exit", 0))
    verifyObject(IRun, run)
    await run.wait()
    assert enclosure.plot == kit.plot()


@pytest_twisted.ensureDeferred
async def test_the_facts_name_limits_that_there_are(kit: Kit) -> None:
    facts = await kit.sandbox.probe()
    assert facts.mode in ("memory", "root", "user")
    assert set(facts.enforced) <= {*(field.name for field in attrs.fields(Limits)), *WALLS}
    assert {"wall", "output"} <= set(facts.enforced)


@pytest.mark.parametrize("code", [0, 3, 125, 127, 137])
@pytest_twisted.ensureDeferred
async def test_a_run_ends_with_the_code_of_its_program(kit: Kit, code: int) -> None:
    assert await kit.run(await kit.prepare(), ("exit", code)) == Exit(code=code)


@pytest_twisted.ensureDeferred
async def test_all_output_is_delivered_before_the_end(kit: Kit) -> None:
    enclosure = await kit.prepare()
    await kit.run(enclosure, ("flood", 200_000), ("complain", "b"), ("print", "c"))
    assert kit.printed == {1: bytes(200_000) + b"c", 2: b"b"}


@pytest_twisted.ensureDeferred
async def test_the_end_can_be_waited_for_any_number_of_times(kit: Kit) -> None:
    run = await kit.start(await kit.prepare(), ("sleep", 0.05), ("exit", 4))
    early = [run.wait(), run.wait()]
    ends = [await waiter for waiter in early] + [await run.wait()]
    assert ends == [Exit(code=4)] * 3


@pytest_twisted.ensureDeferred
async def test_who_stops_waiting_does_not_disturb_the_others(kit: Kit) -> None:
    run = await kit.start(await kit.prepare(), ("sleep", 0.05), ("exit", 0))
    impatient, patient = run.wait(), run.wait()
    impatient.cancel()
    with pytest.raises(CancelledError):
        await impatient
    assert await patient == Exit(code=0)


@pytest_twisted.ensureDeferred
async def test_killing_ends_a_run_and_says_so(kit: Kit) -> None:
    run = await kit.start(await kit.prepare(), ("sleep", 600))
    first, second = run.kill(), run.kill()
    assert await first == await second == await run.wait() == Exit(signal=9, killed=True)


@pytest_twisted.ensureDeferred
async def test_killing_what_has_ended_tells_how_it_ended(kit: Kit) -> None:
    run = await kit.start(await kit.prepare(), ("exit", 5))
    await run.wait()
    assert await run.kill() == Exit(code=5)


@pytest_twisted.ensureDeferred
async def test_after_its_end_another_can_be_started_and_not_before(kit: Kit) -> None:
    enclosure = await kit.prepare()
    run = await kit.start(enclosure, ("sleep", 600))
    with pytest.raises(Conflict):
        await kit.start(enclosure, ("exit", 0))
    await run.kill()
    assert await kit.run(enclosure, ("exit", 6)) == Exit(code=6)


@pytest_twisted.ensureDeferred
async def test_a_run_over_its_time_is_ended(kit: Kit) -> None:
    enclosure = await kit.prepare(limits=Limits(wall=0.1, disk=16 << 20))
    assert await kit.run(enclosure, ("sleep", 600)) == Exit(signal=9, limit="wall")


@pytest_twisted.ensureDeferred
async def test_a_run_over_its_output_is_ended_and_has_printed_just_so_much(kit: Kit) -> None:
    enclosure = await kit.prepare(limits=Limits(output=100_000, disk=16 << 20))
    ended = await kit.run(enclosure, ("print", "first"), ("flood", 100_000), ("sleep", 600))
    assert ended.limit == "output"
    assert not ended.killed
    assert len(kit.printed[1]) == 100_000
    assert kit.printed[1].startswith(b"first")


@pytest_twisted.ensureDeferred
async def test_printing_just_the_limit_is_no_offence(kit: Kit) -> None:
    enclosure = await kit.prepare(limits=Limits(output=5000, disk=16 << 20))
    assert await kit.run(enclosure, ("flood", 5000)) == Exit(code=0)


@pytest_twisted.ensureDeferred
async def test_files_stay_between_runs_and_are_gone_after_a_wipe(kit: Kit) -> None:
    enclosure = await kit.prepare()
    await kit.run(enclosure, ("write", "notes"))
    await kit.run(enclosure, ("list", "notes"))
    assert kit.printed[1] == b"notes\n"
    await enclosure.wipe()
    await kit.run(enclosure, ("list", "notes"))
    assert kit.printed[1] == b"notes\n"


@pytest_twisted.ensureDeferred
async def test_the_disk_is_left_alone_while_a_program_runs(kit: Kit, tmp_path: Path) -> None:
    enclosure = await kit.prepare()
    run = await kit.start(enclosure, ("sleep", 600))
    with pytest.raises(Conflict):
        await enclosure.wipe()
    with pytest.raises(Conflict):
        await enclosure.collect(["*"], tmp_path / "outputs.tar")
    await run.kill()


@pytest.mark.parametrize(
    ("patterns", "names"),
    [
        (["results"], ["results/a.csv", "results/deep/b.csv"]),
        (["results/*.csv"], ["results/a.csv"]),
        (["**/*.csv"], ["results/a.csv", "results/deep/b.csv", "top.csv"]),
        (["./results/**/b.csv", "to?.csv"], ["results/deep/b.csv", "top.csv"]),
        (["*.[ab-d]sv"], ["top.csv"]),
        (["results/**"], ["results/a.csv", "results/deep/b.csv"]),
    ],
)
@pytest_twisted.ensureDeferred
async def test_the_files_that_match_are_collected(
    kit: Kit, patterns: list[str], names: list[str], tmp_path: Path
) -> None:
    enclosure = await kit.prepare()
    files = ("results/a.csv", "results/deep/b.csv", "top.csv", "top.tsv", "results.txt")
    await kit.run(enclosure, *(("write", name) for name in files))
    target = tmp_path / "outputs.tar"
    collected = await enclosure.collect(patterns, target)
    assert collected.size == target.stat().st_size > 0
    assert collected.left_out == ()
    with tarfile.open(target) as tar:
        assert sorted(tar.getnames()) == names
        for name in names:
            content = tar.extractfile(name)
            assert content is not None
            assert content.read() == b"written\n"


@pytest_twisted.ensureDeferred
async def test_where_nothing_matches_no_file_is_made(kit: Kit, tmp_path: Path) -> None:
    enclosure = await kit.prepare()
    patterns = ["results/*", "../*", "/etc/passwd"]
    collected = await enclosure.collect(patterns, tmp_path / "x")
    assert collected.size == 0
    assert collected.left_out == tuple(f"no file matches {pattern}" for pattern in patterns)
    assert await enclosure.collect([], tmp_path / "x") == Collected()
    assert not (tmp_path / "x").exists()


@pytest_twisted.ensureDeferred
async def test_a_pattern_that_nothing_matches_is_told_beside_what_is_kept(
    kit: Kit, tmp_path: Path
) -> None:
    enclosure = await kit.prepare()
    await kit.run(enclosure, ("write", "notes"))
    collected = await enclosure.collect(["notes", "result.json"], tmp_path / "outputs.tar")
    assert collected.size > 0
    assert collected.left_out == ("no file matches result.json",)


@pytest_twisted.ensureDeferred
async def test_a_file_that_is_there_is_neither_overwritten_nor_lost(
    kit: Kit, tmp_path: Path
) -> None:
    enclosure = await kit.prepare()
    await kit.run(enclosure, ("write", "notes"))
    (tmp_path / "mine").write_text("mine")
    with pytest.raises(Conflict, match="mine"):
        await enclosure.collect(["notes"], tmp_path / "mine")
    assert (tmp_path / "mine").read_text() == "mine"


@pytest_twisted.ensureDeferred
async def test_what_was_written_is_counted_and_is_nothing_after_a_wipe(kit: Kit) -> None:
    enclosure = await kit.prepare()
    assert await enclosure.written() == 0
    await kit.run(enclosure, ("exit", 0))
    assert await enclosure.written() == 0
    await kit.run(enclosure, ("write", "notes"), ("write", "more/notes"))
    assert 2 <= await enclosure.written() <= 3
    await enclosure.wipe()
    assert await enclosure.written() == 0
    run = await kit.start(enclosure, ("sleep", 600))
    with pytest.raises(Conflict):
        await enclosure.written()
    await run.kill()


@pytest_twisted.ensureDeferred
async def test_the_processes_of_a_run_are_listed_while_it_lives(kit: Kit) -> None:
    enclosure = await kit.prepare()
    assert isinstance(enclosure.uid, int)
    run = await kit.start(enclosure, ("sleep", 600))
    assert len(run.processes()) >= 1
    await run.kill()
    assert run.processes() == []


async def can_pause(kit: Kit) -> bool:
    """Whether this sandbox can; if not it has to say so."""
    if (await kit.sandbox.probe()).freezer:
        return True
    run = await kit.start(await kit.prepare(), ("sleep", 600))
    with pytest.raises(SandboxFailed, match="freezer"):
        await run.pause()
    assert not run.paused()
    await run.resume()
    return False


@pytest_twisted.ensureDeferred
async def test_a_run_can_be_paused_and_resumed_again_and_again(kit: Kit) -> None:
    if not await can_pause(kit):
        return
    run = await kit.start(await kit.prepare(), ("sleep", 0.2), ("exit", 4))
    assert not run.paused()
    for _ in range(2):
        await run.pause()
        await run.pause()
        assert run.paused()
        await run.resume()
        await run.resume()
        assert not run.paused()
    assert await run.wait() == Exit(code=4)
    await run.pause()
    await run.resume()
    assert not run.paused()


@pytest_twisted.ensureDeferred
async def test_what_is_paused_can_be_killed(kit: Kit) -> None:
    if not await can_pause(kit):
        return
    run = await kit.start(await kit.prepare(), ("sleep", 600))
    await run.pause()
    assert await run.kill() == Exit(signal=9, killed=True)
    assert not run.paused()
    assert run.processes() == []


@pytest_twisted.ensureDeferred
async def test_what_is_paused_can_be_destroyed(kit: Kit) -> None:
    if not await can_pause(kit):
        return
    enclosure = await kit.prepare()
    run = await kit.start(enclosure, ("sleep", 600))
    await run.pause()
    await enclosure.destroy()
    assert (await run.wait()).killed


@pytest_twisted.ensureDeferred
async def test_time_goes_on_for_what_is_paused(kit: Kit) -> None:
    if not await can_pause(kit):
        return
    enclosure = await kit.prepare(limits=Limits(wall=0.5, disk=16 << 20))
    run = await kit.start(enclosure, ("sleep", 600))
    await run.pause()
    assert await run.wait() == Exit(signal=9, limit="wall")


@pytest_twisted.ensureDeferred
async def test_destroying_kills_and_can_be_done_again(kit: Kit) -> None:
    enclosure = await kit.prepare()
    run = await kit.start(enclosure, ("sleep", 600))
    end = run.wait()
    await enclosure.destroy()
    assert await end == Exit(signal=9, killed=True)
    await enclosure.destroy()
    with pytest.raises(Conflict):
        await kit.start(enclosure, ("exit", 0))


@pytest_twisted.ensureDeferred
async def test_a_key_is_free_again_after_destruction_and_not_before(kit: Kit) -> None:
    enclosure = await kit.prepare()
    with pytest.raises(Conflict):
        await kit.prepare()
    other = await kit.prepare("1.1.slave-0")
    await enclosure.destroy()
    again = await kit.prepare()
    assert await kit.run(again, ("exit", 0)) == await kit.run(other, ("exit", 0)) == Exit(code=0)


@pytest_twisted.ensureDeferred
async def test_two_disks_have_nothing_in_common(kit: Kit) -> None:
    one, other = await kit.prepare(), await kit.prepare("1.1.slave-0")
    await kit.run(one, ("write", "notes"))
    await kit.run(other, ("list", "notes"))
    assert kit.printed[1] == b""


@pytest_twisted.ensureDeferred
async def test_closing_ends_everything(kit: Kit) -> None:
    run = await kit.start(await kit.prepare(), ("sleep", 600))
    end = run.wait()
    await kit.sandbox.close()
    assert (await end).killed
    with pytest.raises(SyndicateError):
        await kit.prepare("another")


@pytest_twisted.ensureDeferred
async def test_a_clean_host_has_nothing_to_sweep(kit: Kit) -> None:
    await (await kit.prepare()).destroy()
    assert await kit.sandbox.sweep() == 0


@pytest_twisted.ensureDeferred
async def test_make_runs_at_the_top_of_the_source(real: Kit) -> None:
    run = await (await real.prepare()).start(["make", "master"], {}, real.take)
    assert await run.wait() == Exit(code=0)
    assert real.printed[1] == b"echo made\nmade\n"


@pytest_twisted.ensureDeferred
async def test_a_program_has_just_the_environment_that_it_was_given(real: Kit) -> None:
    run = await (await real.prepare()).start(["env"], {"OWN": "own", "LANG": "C"}, real.take)
    await run.wait()
    assert sorted(real.printed[1].decode().split()) == [
        "HOME=/",
        "LANG=C",
        "OWN=own",
        "PATH=/usr/local/bin:/usr/bin:/bin",
        "TMPDIR=/tmp",
    ]


@pytest.mark.parametrize("number", [1, 6, 9, 11, 15])
@pytest_twisted.ensureDeferred
async def test_a_program_ended_by_a_signal_is_told_from_one_with_a_code(
    real: Kit, number: int
) -> None:
    run = await (await real.prepare()).start(["sh", "-c", f"kill -{number} $$"], {}, real.take)
    assert await run.wait() == Exit(signal=number)


@pytest_twisted.ensureDeferred
async def test_a_program_that_is_not_there_is_an_error_of_the_start(real: Kit) -> None:
    enclosure = await real.prepare()
    with pytest.raises(SyndicateError, match=r"no-such-program.*No such file"):
        await enclosure.start(["no-such-program"], {}, real.take)
    await real.shell(enclosure, "chmod 644 /Makefile")
    with pytest.raises(SyndicateError, match=r"Makefile.*Permission denied"):
        await enclosure.start(["/Makefile"], {}, real.take)
    assert await real.run(enclosure, ("exit", 0)) == Exit(code=0)


@pytest_twisted.ensureDeferred
async def test_a_broken_source_is_refused_and_leaves_nothing(real: Kit, tmp_path: Path) -> None:
    place = tmp_path / "bad.tar"
    place.write_bytes(archive([symlink("out", "/etc")]))
    with pytest.raises(InvalidSource, match="outside the source"):
        await real.prepare(source=place, sha256="0" * 64)
    await (await real.prepare()).destroy()


@pytest_twisted.ensureDeferred
async def test_no_room_on_the_hosts_disk_is_said_beforehand(real: Kit) -> None:
    with pytest.raises(StorageFull, match="free"):
        await real.prepare(limits=Limits(disk=1 << 50))


@pytest_twisted.ensureDeferred
async def test_the_same_source_is_unpacked_only_once(real: Kit) -> None:
    plot = real.plot()
    await (await real.sandbox.prepare(plot)).destroy()
    plot.source.unlink()
    enclosure = await real.sandbox.prepare(plot)
    assert await real.shell(enclosure, "cat kept.txt") == "kept\n"


@pytest_twisted.ensureDeferred
async def test_no_job_can_change_the_unpacked_source(real: Kit) -> None:
    plot = real.plot()
    for _ in range(2):
        enclosure = await real.sandbox.prepare(plot)
        script = "cat kept.txt; ls; echo changed > kept.txt; rm Makefile; mkdir new; chmod 700 /"
        assert "kept" in await real.shell(enclosure, script)
        assert "kept.txt\n" in await real.shell(enclosure, "ls; stat -c %a /")
        await enclosure.wipe()
        listing = await real.shell(enclosure, "cat kept.txt; ls; stat -c %a /")
        assert "kept\n" in listing
        assert "Makefile" in listing
        assert "new" not in listing
        assert "755" in listing
        await enclosure.destroy()


@pytest_twisted.ensureDeferred
async def test_the_machines_own_name_and_the_others_are_found(real: Kit) -> None:
    enclosure = await real.prepare()
    found = await real.shell(
        enclosure, "hostname; getent hosts master localhost; id -un; getent passwd job"
    )
    assert found.startswith("master\n10.9.8.7")
    assert "127.0.0.1" in found
    assert "job\njob:x:" in found


@pytest_twisted.ensureDeferred
async def test_the_sources_own_directories_are_merged_with_the_machines(real: Kit) -> None:
    place = real.directory / "merged.tar.gz"
    files = {
        "Makefile": MAKEFILE,
        "bin/own": "#!/bin/sh\necho own tool\n",
        "lib/own.txt": "own library\n",
        "etc/own.conf": "own configuration\n",
        "lib/x86_64-linux-gnu/own.so": "",
    }
    enclosure = await real.prepare(source=place, sha256=source(place, files))
    said = await real.shell(
        enclosure, "bin/own; cat lib/own.txt etc/own.conf; id -un; awk 'BEGIN{print 6*7}'"
    )
    assert said == "own tool\nown library\nown configuration\njob\n42\n"


@pytest_twisted.ensureDeferred
async def test_the_merged_directories_are_writable_either_way(real: Kit) -> None:
    place = real.directory / "merged.tar.gz"
    bare = await real.prepare()
    full = await real.prepare(
        "1.1.slave-0",
        source=place,
        sha256=source(place, {"Makefile": MAKEFILE, "bin/x": "", "etc/x": "", "lib/x": ""}),
    )
    script = (
        "for d in bin sbin lib lib64 etc tmp dev/shm; do mkdir -p $d/new && echo hi > $d/new/file"
        " && echo hi > $d/fresh && cat $d/fresh || exit; done;"
        "rm bin/sh; test ! -e bin/sh && echo ok"
    )
    for enclosure in (bare, full):
        assert await real.shell(enclosure, script) == "hi\n" * 7 + "ok\n"


@pytest_twisted.ensureDeferred
async def test_tmp_is_empty_at_each_start(real: Kit) -> None:
    enclosure = await real.prepare()
    deep = "; ".join(["mkdir d && cd d"] * 500)
    await real.shell(
        enclosure, f"touch /tmp/file; mkdir /tmp/shut; chmod 0 /tmp/shut; cd /tmp; {deep}"
    )
    assert await real.shell(enclosure, "ls -A /tmp; stat -c %a /tmp") == "1777\n"


@pytest_twisted.ensureDeferred
async def test_collecting_follows_no_link_and_takes_only_files(real: Kit, tmp_path: Path) -> None:
    enclosure = await real.prepare()
    await real.shell(
        enclosure,
        "mkdir out; ln -s file out/alias;"
        "ln -s /etc/passwd out/link; ln -s /usr/include out/dir; mkfifo out/pipe;"
        "ln -s /proc/1/root out/proc; echo hi > out/file; echo hi > out/shut; chmod 0 out/shut;"
        f"echo long > out/{'n' * 150}; echo 'new' > out/größe",
    )
    patterns = ["out/**", "etc/**", "usr/**", "proc/**"]
    collected = await enclosure.collect(patterns, tmp_path / "outputs.tar")
    with tarfile.open(tmp_path / "outputs.tar") as tar:
        assert sorted(tar.getnames()) == ["out/file", "out/größe", f"out/{'n' * 150}"]
    assert collected.left_out == (
        "out/alias is a link",
        "out/dir is a link",
        "out/link is a link",
        "out/pipe is no regular file",
        "out/proc is a link",
        "out/shut cannot be read: Permission denied",
        "no file matches etc/**",
        "no file matches usr/**",
        "no file matches proc/**",
    )


@pytest_twisted.ensureDeferred
async def test_a_short_list_tells_what_was_left_out_whatever_its_names(
    real: Kit, tmp_path: Path
) -> None:
    enclosure = await real.prepare()
    await real.shell(
        enclosure,
        "mkdir -p out/shut; touch out/shut/file; chmod 0 out/shut;"
        """ln -s x "out/00`printf '\\nb'`";"""
        "for i in `seq 100 150`; do ln -s x out/$i; done",
    )
    collected = await enclosure.collect(["out"], tmp_path / "outputs.tar")
    assert collected.size == 0
    assert len(collected.left_out) == 21
    assert collected.left_out[0] == "'out/00\\nb' is a link"
    assert collected.left_out[-1] == "and 33 more"
    collected = await enclosure.collect(["out/shut/*", "out/sh*"], tmp_path / "outputs.tar")
    assert collected.left_out == (
        "out/shut cannot be read: Permission denied",
        "no file matches out/shut/*",
    )


@pytest_twisted.ensureDeferred
async def test_a_file_of_nothing_but_holes_does_not_fill_the_hosts_disk(
    real: Kit, tmp_path: Path
) -> None:
    enclosure = await real.prepare()
    await real.shell(enclosure, "truncate -s 15M a b")
    with pytest.raises(TooLarge, match="outputs"):
        await enclosure.collect(["a", "b"], tmp_path / "outputs.tar")
    assert os.listdir(tmp_path) == []


@pytest_twisted.ensureDeferred
async def test_programs_that_daemonise_and_ignore_signals_are_killed_too(real: Kit) -> None:
    enclosure = await real.prepare()
    stubborn = (
        "for i in 1 2 3 4 5; do "
        "(trap '' TERM INT HUP QUIT;"
        " setsid sh -c 'exec >/dev/null 2>&1 </dev/null; (sleep NAP; :) &' &)"
        "; done; exec sleep NAP"
    )
    run = await enclosure.start(["sh", "-c", stubborn.replace("NAP", NAP)], {}, real.take)
    await until(lambda: len(sleepers()) == 6)
    await run.kill()
    assert sleepers() == []


@pytest_twisted.ensureDeferred
async def test_the_end_of_the_program_is_the_end_of_what_it_left_running(real: Kit) -> None:
    run = await (await real.prepare()).start(["sh", "-c", f"sleep {NAP} & exit 7"], {}, real.take)
    assert await run.wait() == Exit(code=7)
    assert sleepers() == []


@pytest_twisted.ensureDeferred
async def test_a_lingering_run_goes_on_while_anything_lives(real: Kit) -> None:
    enclosure = await real.prepare(linger=True)
    script = "(sleep 0.2; echo late) & echo early; exit 7"
    run = await enclosure.start(["sh", "-c", script], {}, real.take)
    assert await run.wait() == Exit(code=7)
    assert real.printed[1] == b"early\nlate\n"
    run = await enclosure.start(["sh", "-c", f"sleep {NAP} & exit 0"], {}, real.take)
    await until(lambda: len(sleepers()) == 1)
    await deferLater(the_reactor(), 0.1)
    assert len(sleepers()) == 1
    await run.kill()
    assert sleepers() == []


@pytest_twisted.ensureDeferred
async def test_just_as_many_processes_as_the_limit_says_can_live(real: Kit) -> None:
    program = (
        "import subprocess\n"
        "made = []\n"
        "try:\n"
        f"    while True: made.append(subprocess.Popen(['sleep', '{NAP}']))\n"
        "except OSError as e: print(len(made), e.strerror)\n"
    )
    place = real.directory / "python.tar.gz"
    sha256 = source(place, {"Makefile": "master:\n", "p.py": program})
    limits = Limits(pids=30, disk=16 << 20)
    enclosure = await real.prepare(source=place, sha256=sha256, limits=limits)
    run = await enclosure.start(["/usr/bin/python3", "p.py"], {}, real.take)
    await run.wait()
    assert real.printed[1] == b"29 Resource temporarily unavailable\n"  # and itself


@pytest_twisted.ensureDeferred
async def test_the_first_process_of_its_namespace_cannot_be_looked_into(real: Kit) -> None:
    if os.geteuid() == 0 and (await real.sandbox.probe()).mode == "user":
        pytest.skip("root outside is the job's user inside, and owns what is to be hidden")
    script = "cat /proc/1/environ; ls /proc/1/fd; ls -l /proc/1/exe; ls /proc/1/root"
    assert (await real.shell(await real.prepare(), script)).count("Permission denied") == 4


@pytest_twisted.ensureDeferred
async def test_what_is_paused_does_nothing_until_it_is_resumed(real: Kit) -> None:
    if not await can_pause(real):
        return
    enclosure = await real.prepare("2.1.master")
    script = "setsid sh -c 'while sleep 0.01; do echo x; done' & wait"
    run = await enclosure.start(["sh", "-c", script], {}, real.take)
    while len(real.printed[1]) < 10:
        await deferLater(the_reactor(), 0.01)
    await run.pause()
    await deferLater(the_reactor(), 0.05)  # for what is in the pipe already
    before = len(real.printed[1])
    await deferLater(the_reactor(), 0.3)
    assert len(real.printed[1]) == before
    assert len(run.processes()) >= 2
    await run.resume()
    while len(real.printed[1]) < before + 10:
        await deferLater(the_reactor(), 0.01)
    await run.kill()


@pytest_twisted.ensureDeferred
async def test_what_is_in_tmp_is_counted_too(real: Kit) -> None:
    enclosure = await real.prepare()
    await real.shell(enclosure, "mkdir -p /tmp/a/b; chmod 0 /tmp/a; ln -s / /tmp/link; rm kept.txt")
    assert await enclosure.written() >= 3


class Greeter(Protocol):
    """Greets and hangs up."""

    def connectionMade(self) -> None:
        assert self.transport is not None
        self.transport.write(b"hello\n")
        self.transport.loseConnection()


@pytest_twisted.ensureDeferred
async def test_shared_directories_can_be_read_and_their_sockets_used(real: Kit) -> None:
    with tempfile.TemporaryDirectory(prefix="syn") as short:  # as a socket's path has to be
        await _use_share(real, Path(short))


async def _use_share(real: Kit, shared: Path) -> None:
    (shared / "file").write_text("shared\n")
    port = the_reactor().listenUNIX(str(shared / "socket"), Factory.forProtocol(Greeter))
    for place in (shared, shared / "file", shared / "socket"):
        place.chmod(0o777)
    program = "import socket; s = socket.socket(socket.AF_UNIX); s.connect('/run/own/socket');"
    ask = f'/usr/bin/python3 -c "{program} print(s.recv(99).decode(), end=str())"'
    try:
        enclosure = await real.prepare(shares=((shared, "/run/own"),))
        look = f"cat /run/own/file; {ask}; echo x > /run/own/new || echo refused; ls /run/own"
        said = await real.shell(enclosure, look)
        assert said.startswith("shared\nhello\nrefused\nfile\nsocket\n")
        assert await enclosure.written() == 0
    finally:
        await port.stopListening()


@pytest_twisted.ensureDeferred
async def test_a_link_in_the_way_of_a_share_leads_nowhere(real: Kit, tmp_path: Path) -> None:
    shared, other = tmp_path / "shared", tmp_path / "other"
    shared.mkdir()
    (other / "own").mkdir(parents=True)
    (other / "own/hidden").touch()
    enclosure = await real.prepare(shares=((shared, "/run/own"),))
    await real.shell(enclosure, f"mv /run /moved; rm -rf /run; ln -s {other} /run")
    seen = ""
    with contextlib.suppress(SandboxFailed):
        seen = await real.shell(enclosure, "ls -R /run/")
    assert "hidden" not in seen


@pytest_twisted.ensureDeferred
async def test_standard_input_is_empty(real: Kit) -> None:
    assert await real.shell(await real.prepare(), "cat; readlink /proc/self/fd/0") == "/dev/null\n"


@pytest_twisted.ensureDeferred
async def test_no_descriptor_of_the_daemon_is_passed_on(real: Kit) -> None:
    assert await real.shell(await real.prepare(), "ls /proc/$$/fd") == "0\n1\n2\n"


@pytest_twisted.ensureDeferred
async def test_a_start_that_is_destroyed_meanwhile_fails(real: Kit) -> None:
    enclosure = await real.prepare()
    starting = enclosure.start(["sleep", NAP], {}, real.take)
    destroying = enclosure.destroy()
    with contextlib.suppress(SyndicateError):
        await starting
    await destroying
    assert sleepers() == []


@pytest_twisted.ensureDeferred
async def test_a_tarball_that_was_collected_is_one_that_can_be_submitted(
    real: Kit, tmp_path: Path
) -> None:
    enclosure = await real.prepare()
    await enclosure.collect(["**"], tmp_path / "again.tar")
    with tarfile.open(tmp_path / "again.tar") as tar:
        assert sorted(tar.getnames()) == ["Makefile", "kept.txt"]
    again = await real.prepare("2.1.master", source=tmp_path / "again.tar", sha256="1" * 64)
    assert await real.shell(again, "cat kept.txt") == "kept\n"


def test_the_kit_itself_builds_what_it_says() -> None:
    data = archive([member("a", b"x")])
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        assert tar.getnames() == ["Makefile", "a"]
