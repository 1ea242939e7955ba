from __future__ import annotations

import bz2
import gzip
import io
import itertools
import lzma
import os
import shutil
import stat
import subprocess
import tarfile
import tracemalloc
import zipfile
from collections.abc import Iterator
from pathlib import Path

import attrs
import hypothesis
import pytest
from hypothesis import strategies as st

from syndicate.domain.makefile import LONGEST
from syndicate.sandbox.confine.tree import Tree
from syndicate.sandbox.interface import SourceRules
from syndicate.sandbox.tar import Facts, Refused, read_source
from tests.support.tarballs import (
    COMPRESSIONS,
    MAKEFILE,
    archive,
    directory,
    hard_link,
    header,
    member,
    source,
    symlink,
)

RULES = attrs.asdict(SourceRules())


def read(data: bytes, top: Path | None = None, **rules: int) -> Facts:
    """Read these bytes as a tarball; unpack them if there is a place for it."""
    file = os.memfd_create("tarball")
    try:
        os.write(file, data)
        os.lseek(file, 0, os.SEEK_SET)
        return read_source(file, {**RULES, **rules}, Tree(str(top)) if top else None)
    finally:
        os.close(file)


def refusal(data: bytes, top: Path | None = None, **rules: int) -> str:
    """Why these bytes are refused."""
    with pytest.raises(Refused) as refused:
        read(data, top, **rules)
    return str(refused.value)


@pytest.fixture
def top(tmp_path: Path) -> Iterator[Path]:
    """A directory to unpack in, with a sentinel beside it that must not be touched."""
    (tmp_path / "outside").write_text("untouched")
    place = tmp_path / "top"
    place.mkdir()
    yield place
    assert sorted(path.name for path in tmp_path.iterdir()) == ["outside", "top"]
    assert (tmp_path / "outside").read_text() == "untouched"


@pytest.mark.parametrize("compression", COMPRESSIONS)
def test_each_compression_is_read(compression: str, top: Path) -> None:
    data = COMPRESSIONS[compression](archive([member("a/b.txt", b"hello")]))
    facts = read(data, top)
    assert (facts.members, facts.unpacked, facts.makefile) == (3, 5 + len(MAKEFILE), MAKEFILE)
    assert (top / "a/b.txt").read_bytes() == b"hello"


@pytest.mark.parametrize("form", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_names_too_long_for_the_first_tar_are_read_in_each_form(form: int, top: Path) -> None:
    name = "/".join(["d" * 60] * 3) + "/file"
    read(archive([member(name, b"x")], form), top)
    assert (top / name).read_bytes() == b"x"


@pytest.mark.parametrize("form", [tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_long_targets_of_links_are_read(form: int, top: Path) -> None:
    target = "t" * 200
    read(archive([symlink("link", target)], form), top)
    assert os.readlink(top / "link") == target


def test_what_tar_itself_packs_is_read(tmp_path: Path, top: Path) -> None:
    made = tmp_path / "made"
    (made / "deep/er").mkdir(parents=True)
    (made / "Makefile").write_bytes(MAKEFILE)
    (made / "deep/er/größe.txt").write_text("x" * 100_000)
    (made / "run").write_text("#!/bin/sh\n")
    (made / "run").chmod(0o755)
    (made / "link").symlink_to("deep/er")
    (made / "twin").hardlink_to(made / "run")
    packed = tmp_path / "packed.tgz"
    subprocess.run(["tar", "czf", packed, "-C", made, "."], check=True)
    read(packed.read_bytes(), top)
    assert (top / "deep/er/größe.txt").stat().st_size == 100_000
    assert (top / "run").stat().st_mode & 0o777 == 0o755
    assert os.readlink(top / "link") == "deep/er"
    assert (top / "twin").samefile(top / "run")
    subprocess.run(["rm", "-r", made, packed], check=True)


def test_several_compressed_streams_in_a_row_are_one_archive() -> None:
    data = archive([member("a", b"x" * 5000)])
    for compress in (gzip.compress, bz2.compress, lzma.compress):
        assert read(compress(data[:3000]) + compress(data[3000:])).members == 2


def test_the_time_of_a_file_is_kept_unless_it_is_to_come(top: Path) -> None:
    read(archive([member("old", mtime=1_000_000_000), member("new", mtime=9_000_000_000)]), top)
    assert (top / "old").stat().st_mtime == 1_000_000_000
    assert (top / "new").stat().st_mtime < 5_000_000_000


@pytest.mark.parametrize("form", ["gnu", "pax"])
def test_what_is_older_than_the_epoch_is_taken(
    form: str, tmp_path_factory: pytest.TempPathFactory, top: Path
) -> None:
    makefile = tmp_path_factory.mktemp("old") / "Makefile"
    makefile.write_bytes(MAKEFILE)
    os.utime(makefile, (-1000, -1000))
    command = ["tar", "cf", "-", f"--format={form}", "-C", str(makefile.parent), "Makefile"]
    read(subprocess.run(command, check=True, capture_output=True).stdout, top)
    assert (top / "Makefile").stat().st_mtime == 0


def test_rights_are_kept_but_none_that_give_rights(top: Path) -> None:
    read(archive([member("a", mode=0o6755), member("b", mode=0), directory("c", mode=0o1555)]), top)
    modes = {name: stat.S_IMODE((top / name).stat().st_mode) for name in "abc"}
    assert modes == {"a": 0o755, "b": 0o600, "c": 0o755}


def test_the_makefile_that_make_would_take_is_the_one_that_is_kept() -> None:
    members = [member("makefile", b"second"), member("GNUmakefile", b"first")]
    assert read(archive(members)).makefile == b"first"


def test_a_huge_makefile_is_kept_in_part() -> None:
    data = archive([member("Makefile", b"#" * (3 << 20))], makefile=False)
    assert len(read(data).makefile) == LONGEST


def test_directories_that_are_the_machines_too_may_be_in_a_source(top: Path) -> None:
    names = ("bin/tool", "lib/x86_64-linux-gnu/libown.so", "etc/own.conf", "lib64/x", "sbin/y")
    read(archive([member(name, b"x") for name in names]), top)
    assert all((top / name).exists() for name in names)


ESCAPES = {
    "absolute": [member("/etc/cron.d/x", b"x")],
    "dots": [member("../outside", b"x")],
    "dots in the middle": [member("a/../../outside", b"x")],
    "dots that stay inside": [member("a/../b", b"x")],
    "directory of dots": [directory("..")],
    "link out": [symlink("out", "../outside")],
    "absolute link": [symlink("out", "/etc")],
    "empty link": [symlink("out", "")],
    "link that climbs and comes back": [directory("a"), symlink("a/out", "../../top/a")],
    "through a link": [symlink("here", "."), member("here/x", b"x")],
    "through a link to a directory": [directory("a"), symlink("b", "a"), member("b/c", b"x")],
    "directory over a link": [directory("a"), symlink("b", "a"), directory("b")],
    "hard link out": [hard_link("x", "../outside")],
    "absolute hard link": [hard_link("x", "/etc/passwd")],
    "hard link to a link": [symlink("a", "Makefile"), hard_link("b", "a")],
    "hard link to a directory": [directory("a"), hard_link("b", "a")],
    "hard link to what comes later": [hard_link("b", "a"), member("a", b"x")],
    "hard link to itself": [hard_link("b", "b")],
    "file below a file": [member("a", b"x"), member("a/b", b"x")],
    "twice": [member("a", b"x"), member("a", b"y")],
    "twice under two names": [member("a", b"x"), member("./a", b"y")],
    "file over a link": [symlink("a", "Makefile"), member("a", b"x")],
    "link over a file": [member("a", b"x"), symlink("a", "Makefile")],
    "file over a directory": [directory("a"), member("a", b"x")],
    "directory over a file": [member("a", b"x"), directory("a")],
    "no name": [member("./", b"x", type=tarfile.SYMTYPE, linkname="x")],
}


@pytest.mark.parametrize("case", ESCAPES)
@pytest.mark.parametrize("form", [tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_what_leads_astray_is_refused(case: str, form: int, top: Path) -> None:
    refusal(archive(ESCAPES[case], form), top)
    refusal(archive(ESCAPES[case], form))


KINDS = {
    "character device": (tarfile.CHRTYPE, "device"),
    "block device": (tarfile.BLKTYPE, "device"),
    "named pipe": (tarfile.FIFOTYPE, "pipe"),
    "sparse": (tarfile.GNUTYPE_SPARSE, "sparse"),
    "unheard of": (b"Q", "unknown"),
}


@pytest.mark.parametrize("case", KINDS)
def test_kinds_that_no_source_needs_are_refused_by_name(case: str, top: Path) -> None:
    kind, word = KINDS[case]
    why = refusal(archive([member("odd", type=kind)]), top)
    assert "'odd'" in why
    assert word in why


@pytest.mark.parametrize("name", ["usr/x", "proc/x", "sys/x", "dev/null", "tmp/x", "usr"])
def test_the_machines_own_directories_cannot_be_in_a_source(name: str) -> None:
    assert repr(name.split("/")[0]) in refusal(archive([member(name)]))
    assert repr(name.split("/")[0]) in refusal(archive([directory(name)]))


@pytest.mark.parametrize("name", ["bin", "sbin", "lib", "lib64", "etc"])
def test_a_file_or_link_cannot_take_the_place_of_what_is_merged(name: str) -> None:
    assert "rename" in refusal(archive([member(name)]))
    assert "rename" in refusal(archive([symlink(name, "Makefile")]))


@pytest.mark.parametrize("name", ["new\nline", "bell\a", "back\x08space", "del\x7f"])
def test_names_with_control_characters_are_refused(name: str) -> None:
    why = refusal(archive([member(name)]))
    assert "control character" in why
    assert name not in why


def test_names_that_are_not_utf_8_are_refused() -> None:
    data = header(b"caf\xe9", 0) + bytes(1024)
    assert "UTF-8" in refusal(data)
    members = [member("caf\udce9", pax_headers={"hdrcharset": "BINARY"})]
    assert "UTF-8" in refusal(archive(members))


def test_names_over_the_limit_are_refused() -> None:
    assert "1024" in refusal(archive([member("n/" * 20 + "n" * 1000)]))
    assert "1024" in refusal(archive([symlink("x", "n" * 1100)]))


@pytest.mark.parametrize("letter", ["n", "\N{LATIN SMALL LETTER E WITH ACUTE}"])
def test_names_that_no_file_can_have_are_refused(letter: str, top: Path) -> None:
    longest = letter * (255 // len(letter.encode()))
    for name in (f"{longest}{letter}", f"d/{longest}{letter}/x"):
        assert "255" in refusal(archive([member(name)]))
    read(archive([member(f"e/{longest}")]), top)


def test_directories_over_the_limit_are_refused() -> None:
    assert "deep" in refusal(archive([member("d/" * 41)]))
    read(archive([member("d/" * 39 + "x")]))


def test_members_over_the_limit_are_refused_with_what_they_bring_along() -> None:
    data = archive([member(f"{index}/x") for index in range(10)])
    assert read(data, members=21).members == 21
    assert "20 files" in refusal(data, members=20)


def test_bytes_over_the_limit_are_refused_before_they_are_written(top: Path) -> None:
    data = archive([member("big", bytes(3 << 20))])
    assert "'big'" in refusal(gzip.compress(data), top, unpacked=2 << 20)
    assert not (top / "big").exists()


@pytest.mark.parametrize("compress", [gzip.compress, bz2.compress, lzma.compress])
def test_a_bomb_is_refused_without_being_unpacked(compress: object) -> None:
    bomb = archive([])[:1024] + header(b"bomb", 6 << 30)
    assert callable(compress)
    data = compress(bomb + bytes(64 << 20))
    tracemalloc.start()
    try:
        assert "leave" in refusal(data).lower()
        assert tracemalloc.get_traced_memory()[1] < 32 << 20
    finally:
        tracemalloc.stop()


def test_a_bomb_of_nothing_but_headers_is_refused() -> None:
    headers = header(b"./", 0, b"5") * 100_000
    assert "more than" in refusal(gzip.compress(headers))


def test_a_bomb_of_long_names_is_refused() -> None:
    one = header(b"././@LongLink", 60_000, b"L") + b"n" * 60_000 + bytes(-60_000 % 512)
    assert "more than" in refusal(gzip.compress(one * 2000), unpacked=1 << 20)


@pytest.mark.parametrize("kind", [b"x", b"g", b"L", b"K"])
def test_a_giant_extended_header_is_refused_unread(kind: bytes) -> None:
    tracemalloc.start()
    try:
        giant = header(b"pax", 200 << 20, kind)
        assert "header" in refusal(archive([])[:1024] + giant + bytes(1 << 20))
        assert tracemalloc.get_traced_memory()[1] < 16 << 20
    finally:
        tracemalloc.stop()


def test_sparse_files_in_the_pax_form_are_refused() -> None:
    members = [member("holes", pax_headers={"GNU.sparse.major": "1", "GNU.sparse.size": "9"})]
    assert "sparse" in refusal(archive(members))


@pytest.mark.parametrize(
    "record",
    [b"nonsense", b"99 path=x\n", b"0 path=x\n", b"-5 path=x\n", b"9 pathx\n", b"8 path=x"],
)
def test_damaged_extended_headers_are_refused(record: bytes) -> None:
    data = header(b"pax", len(record), b"x") + record.ljust(512, b"\0") + header(b"x", 0)
    assert "header" in refusal(data)


@pytest.mark.parametrize("size", [b"-1", b"1e3", b"x", b""])
def test_nonsense_sizes_are_refused(size: bytes) -> None:
    record = b"%d size=%s\n" % (len(size) + 9, size)
    record = b"%d size=%s\n" % (len(record), size)
    data = header(b"pax", len(record), b"x") + record.ljust(512, b"\0") + header(b"x", 0)
    refusal(data)


@pytest.mark.parametrize("time", [b"nan", b"inf", b"-inf", b"1e999", b"x"])
def test_times_that_are_none_are_refused_before_any_volunteer_meets_them(time: bytes) -> None:
    record = b"%d mtime=%s\n" % (len(time) + 10, time)
    data = header(b"pax", len(record), b"x") + record.ljust(512, b"\0") + header(b"file", 0)
    assert "'file' is damaged" in refusal(data)


def test_a_size_in_the_extended_header_is_the_one_that_counts(top: Path) -> None:
    record = b"9 size=3\n"
    pax = header(b"pax", len(record), b"x") + record.ljust(512, b"\0")
    data = archive([])[:1024] + pax + header(b"file", 1000) + b"abc".ljust(512, b"\0")
    read(data + header(b"next", 0) + bytes(1024), top)
    assert (top / "file").read_bytes() == b"abc"
    assert (top / "next").exists()


def test_the_realpath_overflow_does_not_escape(top: Path) -> None:
    # In the manner of CVE-2025-4517: names so long that realpath() gives up half way.
    step = "d" * 247
    members = []
    path = ""
    for letter in "abcdefghijklmnop":
        members.append(directory(os.path.join(path, step)))
        members.append(symlink(os.path.join(path, letter), step))
        path = os.path.join(path, step)
    chain = "/".join("abcdefghijklmnop")
    members.append(symlink(f"{chain}/{'l' * 254}", "../" * 16))
    members.append(symlink("escape", f"{chain}/{'l' * 254}/../../../outside"))
    members.append(hard_link("flag", "escape"))
    members.append(member("flag", b"written"))
    assert "1024" in refusal(archive(members), top)
    shutil.rmtree(top)
    top.mkdir()
    assert "a symbolic link" in refusal(archive(members), top, name=1 << 20, depth=1000)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "empty"),
        (b"hello", "not a tarball"),
        (os.urandom(5000), "not a tarball"),
        (bytes(10_240), "empty"),
        (b"PK\x03\x04" + bytes(100), "zip"),
        (b"\x28\xb5\x2f\xfd" + bytes(100), "zstd"),
        (b"7z\xbc\xaf\x27\x1c" + bytes(100), "7z"),
        (gzip.compress(b""), "empty"),
        (gzip.compress(b"hello"), "not a tarball"),
        (archive([member("a", b"x" * 2000)])[:3000], "cut short"),
        (gzip.compress(archive([member("a", os.urandom(9000))]))[:5000], "damaged"),
        (gzip.compress(archive([]))[:-6], "damaged"),
        (bz2.compress(archive([]))[:-6], "damaged"),
        (lzma.compress(archive([]))[:-6], "damaged"),
    ],
    ids=itertools.count(),
)
def test_what_is_no_whole_tarball_is_called_by_its_name(data: bytes, words: str) -> None:
    assert words in refusal(data)


def test_a_real_zip_archive_is_called_by_its_name() -> None:
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w") as archive_:
        archive_.writestr("Makefile", MAKEFILE)
    assert "zip archive" in refusal(target.getvalue())


@pytest.mark.parametrize("compress", [gzip.compress, bz2.compress, lzma.compress])
def test_damage_behind_the_last_member_is_noticed(compress: object) -> None:
    assert callable(compress)
    data = bytearray(compress(archive([member("a", os.urandom(500))])))
    data[-5] ^= 0xFF
    refusal(bytes(data))


def test_damage_in_a_header_is_noticed() -> None:
    data = bytearray(archive([member("a", b"x")]))
    data[1024 + 3] ^= 1
    assert "damaged" in refusal(bytes(data))


def test_xz_that_asks_for_much_memory_is_refused() -> None:
    filters = [{"id": lzma.FILTER_LZMA2, "dict_size": 256 << 20}]
    data = lzma.compress(archive([]), filters=filters)
    assert "xz" in refusal(data)


def test_a_source_without_a_makefile_is_refused() -> None:
    why = refusal(archive([member("main.c"), member("sub/Makefile")], makefile=False))
    assert "no Makefile at its top" in why
    assert "tar czf" in why


@pytest.mark.parametrize("extra", [[], [member("._project"), directory("project")]])
def test_a_makefile_one_directory_down_is_refused_with_the_right_command(extra: list) -> None:  # type: ignore[type-arg]
    members = [*extra, member("project/Makefile", MAKEFILE), member("project/main.c")]
    why = refusal(archive(members, makefile=False))
    assert "tar czf project.tar.gz -C project ." in why


@pytest.mark.parametrize(
    "makefile", [symlink("Makefile", "other"), directory("Makefile"), symlink("GNUmakefile", "x")]
)
def test_a_makefile_that_is_no_file_is_refused(makefile: tuple) -> None:  # type: ignore[type-arg]
    assert "regular file" in refusal(archive([makefile], makefile=False))


def test_global_headers_as_git_writes_them_are_passed_over(tmp_path: Path) -> None:
    place = tmp_path / "x.tar"
    with tarfile.open(place, "w", pax_headers={"comment": "0" * 40, "path": "evil"}) as tar:
        info, data = member("Makefile", MAKEFILE)
        tar.addfile(info, io.BytesIO(data))
    assert read(place.read_bytes()).makefile == MAKEFILE


names = st.from_regex(
    r"[a-zäß][a-z0-9 ._-]{0,60}(/[a-z][a-z0-9]{0,40}){0,3}", fullmatch=True
).filter(
    lambda name: name.split("/")[0] not in {"bin", "etc", "lib", "sbin", "dev", "sys", "tmp", "usr"}
)


@hypothesis.given(
    st.dictionaries(names, st.binary(max_size=3000), max_size=8),
    st.sampled_from([tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT]),
    st.sampled_from(sorted(COMPRESSIONS)),
)
def test_whatever_the_standard_library_packs_is_read_alike(
    files: dict[str, bytes], form: int, compression: str
) -> None:
    paths = set(files)
    hypothesis.assume(not any(f"{a}/" in f"{b}/" for a in paths for b in paths if a != b))
    try:
        data = archive([member(name, content) for name, content in files.items()], form)
    except ValueError:  # a name too long for this form
        hypothesis.reject()
    taken = Taken()
    file = os.memfd_create("tarball")
    try:
        os.write(file, COMPRESSIONS[compression](data))
        os.lseek(file, 0, os.SEEK_SET)
        read_source(file, RULES, taken)
    finally:
        os.close(file)
    assert taken.files == {"Makefile": MAKEFILE, **files}


@hypothesis.given(st.data())
def test_no_damage_does_anything_but_be_refused(data: st.DataObject) -> None:
    good = bytearray(archive([directory("d"), member("d/file", b"x" * 700), symlink("l", "d")]))
    for _ in range(data.draw(st.integers(1, 20))):
        at = data.draw(st.integers(0, len(good) - 1) | st.integers(0, 3000))
        good[at] = data.draw(st.integers(0, 255))
    try:
        read(bytes(good))
    except Refused as refused:
        complaint = str(refused)
    else:
        complaint = ""
    assert "\n" not in complaint


@attrs.define
class Taken:
    """A destination that remembers."""

    files: dict[str, bytes] = attrs.field(factory=dict)
    _path: str = ""

    def make_directory(self, path: str) -> None: ...
    def set_mode(self, path: str, mode: int) -> None: ...
    def open_file(self, path: str, mode: int) -> None:
        self._path = path
        self.files[path] = b""

    def write(self, data: bytes) -> None:
        self.files[self._path] += data

    def close_file(self, mtime: float) -> None: ...
    def link_symbolically(self, path: str, target: str) -> None: ...
    def link(self, path: str, target: str) -> None: ...


def test_the_sources_of_our_tests_are_good(tmp_path: Path) -> None:
    source(tmp_path / "x", {"Makefile": MAKEFILE})
    assert read((tmp_path / "x").read_bytes()).members == 1
