import contextlib
import gzip
import io
import stat
import tarfile
import zipfile
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smidgen.data.named.archives import read_tar_gz, read_zip
from smidgen.errors import DataError

WANTED = {"set/a.bin": 5, "set/b.bin": 3}
CONTENTS = {"set/a.bin": b"aaaaa", "set/b.bin": b"bbb"}


def tar_gz(
    *extra: tuple[tarfile.TarInfo, bytes], contents: dict[str, bytes] = CONTENTS
) -> io.BytesIO:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        for name, content in contents.items():
            archive.addfile(tar_member(name, len(content)), io.BytesIO(content))
        for member, content in extra:
            archive.addfile(member, io.BytesIO(content))
    return io.BytesIO(buffer.getvalue())


def tar_member(name: str, size: int = 0, kind: bytes = tarfile.REGTYPE) -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.size, member.type, member.linkname = size, kind, "/etc/passwd"
    return member


def zipped(
    *extra: tuple[zipfile.ZipInfo, bytes], contents: dict[str, bytes] = CONTENTS
) -> io.BytesIO:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in contents.items():
            archive.writestr(name, content)
        for member, content in extra:
            archive.writestr(member, content)
    return io.BytesIO(buffer.getvalue())


def zip_member(name: str, mode: int = stat.S_IFREG) -> zipfile.ZipInfo:
    member = zipfile.ZipInfo(name)
    member.external_attr = (mode | 0o644) << 16
    return member


READERS = [(read_tar_gz, tar_gz), (read_zip, zipped)]


@pytest.mark.parametrize(("read", "make"), READERS)
def test_what_is_wanted_is_read(read: Callable[..., object], make: Callable[..., object]) -> None:
    more = {**CONTENTS, "set/read-me.txt": b"of no interest"}
    assert read(make(contents=more), "the archive", WANTED) == CONTENTS


@pytest.mark.parametrize("name", ["/etc/passwd", "../out", "set/../../out", "..\\out", "C:\\out"])
def test_a_member_that_leaves_its_folder_is_refused(name: str) -> None:
    with pytest.raises(DataError, match=r"the\.tar holds .*, which leaves its folder"):
        read_tar_gz(tar_gz((tar_member(name), b"")), "the.tar", WANTED)
    with pytest.raises(DataError, match=r"the\.zip holds .*, which leaves its folder"):
        read_zip(zipped((zip_member(name), b"")), "the.zip", WANTED)


@pytest.mark.parametrize(
    "kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE]
)
def test_links_and_devices_in_a_tar_are_refused(kind: bytes) -> None:
    with pytest.raises(DataError, match="holds set/link, a link or a device"):
        read_tar_gz(tar_gz((tar_member("set/link", kind=kind), b"")), "the.tar", WANTED)


@pytest.mark.parametrize("mode", [stat.S_IFLNK, stat.S_IFIFO, stat.S_IFCHR])
def test_links_and_devices_in_a_zip_are_refused(mode: int) -> None:
    with pytest.raises(DataError, match="holds set/link, a link or a device"):
        read_zip(zipped((zip_member("set/link", mode), b"/etc/passwd")), "the.zip", WANTED)


@pytest.mark.parametrize(("read", "make"), READERS)
def test_sizes_are_bounded_before_unpacking(
    read: Callable[..., object], make: Callable[..., object]
) -> None:
    large = {**CONTENTS, "set/a.bin": bytes(10_000_000)}
    with pytest.raises(DataError, match=r"set/a\.bin has 10,000,000 bytes; it should have"):
        read(make(contents=large), "the archive", WANTED)


def test_a_tar_bomb_stops_at_its_limit() -> None:
    bomb = {"set/other.bin": bytes(20_000_000), **CONTENTS}
    with pytest.raises(DataError, match="unpacks to more than it should hold"):
        read_tar_gz(tar_gz(contents=bomb), "the.tar", WANTED)
    header = gzip.compress(bytes(20_000_000))
    with pytest.raises(DataError):
        read_tar_gz(io.BytesIO(header), "the.tar", WANTED)


def test_a_member_that_is_larger_than_its_zip_says_is_refused() -> None:
    content = zipped().getvalue()
    place = content.rindex(b"PK\x01\x02")
    lying = bytearray(content)
    lying[place + 24 : place + 28] = (1).to_bytes(4, "little")  # its unpacked size
    with pytest.raises(DataError, match="damaged or no zip"):
        read_zip(io.BytesIO(bytes(lying)), "the.zip", WANTED)


@pytest.mark.parametrize(("read", "make"), READERS)
def test_what_is_missing_is_named(read: Callable[..., object], make: Callable[..., object]) -> None:
    with pytest.raises(DataError, match=r"the archive lacks set/b\.bin"):
        read(make(contents={"set/a.bin": b"aaaaa"}), "the archive", WANTED)


def test_a_member_that_is_there_twice_is_refused() -> None:
    twice = tar_gz((tar_member("set/a.bin", 5), b"other"))
    with pytest.raises(DataError, match=r"holds set/a\.bin twice"):
        read_tar_gz(twice, "the.tar", WANTED)


def test_too_many_members_are_refused() -> None:
    many = {f"set/{number}": b"" for number in range(1001)}
    for read, archive in ((read_tar_gz, tar_gz(contents=many)), (read_zip, zipped(contents=many))):
        with pytest.raises(DataError, match="holds 1,000 members or more"):
            read(archive, "the archive", WANTED)


TAR, ZIP = tar_gz().getvalue(), zipped().getvalue()


@given(st.binary(max_size=300) | st.integers(0, len(TAR) - 1).map(lambda end: TAR[:end]))
def test_garbage_is_no_tar(content: bytes) -> None:
    with pytest.raises(DataError):
        read_tar_gz(io.BytesIO(content), "the.tar", WANTED)


@given(st.binary(max_size=300) | st.integers(0, len(ZIP) - 1).map(lambda end: ZIP[:end]))
def test_garbage_is_no_zip(content: bytes) -> None:
    with pytest.raises(DataError):
        read_zip(io.BytesIO(content), "the.zip", WANTED)


@given(st.integers(0, len(ZIP) - 1), st.integers(1, 255))
def test_an_altered_zip_is_refused_or_still_right(place: int, change: int) -> None:
    altered = bytearray(ZIP)
    altered[place] ^= change
    with contextlib.suppress(DataError):
        assert read_zip(io.BytesIO(bytes(altered)), "the.zip", WANTED) == CONTENTS
