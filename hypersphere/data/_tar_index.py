"""Where the members of a tar archive lie, and reading them there."""

import dataclasses
import os
import tarfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Int32, Int64

from hypersphere.data import _image_files
from hypersphere.data._records import ReadError, Record

_PACKED = {
    b"\x1f\x8b": "gunzip",
    b"BZh": "bunzip2",
    b"\xfd7zXZ": "unxz",
    b"\x28\xb5\x2f\xfd": "unzstd",
    b"PK\x03\x04": "unzip",
}
_BLOCK = 512  # bytes; headers and the end mark of a tar are blocks of this size
_PIECE = 1 << 20  # bytes looked at together, a multiple of blocks


class Member(NamedTuple):
    """The place of a file: its archive, and bytes from the archive's beginning."""

    archive: str
    header: int
    content: int
    size: int


class NamedMember(NamedTuple):
    """A file in an archive, by its name there."""

    name: str
    member: Member


@dataclasses.dataclass(frozen=True, eq=False)
class TarRecords:
    """Labelled images at known places in archives.

    Attributes:
        archives: The archives' paths.
        places: int64 of shape (n, 4): the archive's index, the bytes at which header
            and content start, and how many bytes the content has.
        labels: int32 of shape (n,), the index of each image's class.
    """

    archives: tuple[str, ...]
    places: Int64[np.ndarray, "n 4"]
    labels: Int32[np.ndarray, " n"]

    @classmethod
    def of(cls, images: Sequence[Member], labels: Sequence[int]) -> "TarRecords":
        """Packs the places: a million images take 36 MB."""
        archives = tuple(dict.fromkeys(image.archive for image in images))
        number = {archive: index for index, archive in enumerate(archives)}
        places = [(number[image.archive], *image[1:]) for image in images]
        return cls(archives, np.array(places, np.int64), np.array(labels, np.int32))

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> Record:
        """Reads one image; opens the archive anew, so that no descriptor is kept."""
        archive, _, start, size = self.places[index].tolist()
        descriptor = os.open(self.archives[archive], os.O_RDONLY)
        try:
            content = os.pread(descriptor, size, start)
        finally:
            os.close(descriptor)
        if len(content) != size:
            raise ReadError(
                f"Reading {self.archives[archive]} needs {size} bytes from byte "
                f"{start} on, got {len(content)}. The file has changed since it was "
                "opened; open it again."
            )
        return Record(content, int(self.labels[index]))

    def name(self, index: int) -> str:
        """The archive's path, a slash and the member's name."""
        archive, header, _, _ = self.places[index].tolist()
        path = self.archives[archive]
        with open(path, "rb") as file:  # a million names would take too much memory
            file.seek(header)
            with tarfile.open(fileobj=file, mode="r:") as tar:
                member = tar.next()
        return f"{path}/{member.name if member else header}"

    def listing(self) -> Iterator[bytes]:
        """Where and how large each image is, and all labels."""
        yield self.places.tobytes()
        yield self.labels.tobytes()


def images(
    archive: Path,
    who: str,
    *,
    within: tuple[int, int | None] = (0, None),
    left_out: _image_files.LeftOut | None = None,
    labels: str = "",
) -> list[NamedMember]:
    """The image files of a tar, or of one inside another; no hidden ones.

    Of a name that is there twice the last one counts, as it does when unpacking. Files
    that end in `labels` are not told of as left out.
    """
    found: dict[str, NamedMember] = {}
    left_out = left_out or _image_files.LeftOut()
    for member in members(archive, who, within=within):
        parts = [part for part in member.name.split("/") if part not in ("", ".")]
        if member.isdir() or not parts or any(map(_image_files.is_hidden, parts)):
            continue
        if labels and member.name.endswith(labels):
            left_out.has_labels = True
            continue
        head = b""
        if "." not in parts[-1]:
            head = content_of(archive, member, _image_files.HEAD)
        if not _image_files.is_image(parts[-1], head):
            left_out.note(parts[-1])
            continue
        if not member.isreg() or member.issparse():
            raise ValueError(
                f"`{who}` needs images stored as plain files, got {member.name} in "
                f"{archive}, which is a link or sparse. Pack the archive again with "
                "`tar --dereference --hard-dereference`."
            )
        place = Member(str(archive), member.offset, member.offset_data, member.size)
        found["/".join(parts)] = NamedMember(member.name, place)
    return list(found.values())


def members(
    archive: Path, who: str, *, within: tuple[int, int | None] = (0, None)
) -> Iterator[tarfile.TarInfo]:
    """All members of a tar, also of those that were appended behind its end mark.

    Args:
        archive: The file.
        who: What needs it, for messages.
        within: The bytes of the file that hold the tar: the first, and the one behind
            the last; None for the file's end.

    Yields:
        The members.

    Raises:
        ValueError: If it is compressed, damaged or cut off.
    """
    _check_uncompressed(archive, who)
    start: int | None = within[0]
    with open(archive, "rb") as file:
        end = within[1] or os.fstat(file.fileno()).st_size
        while start is not None:
            file.seek(start)
            try:
                with tarfile.open(fileobj=file, mode="r:") as tar:
                    while member := tar.next():
                        if member.size < 0:  # it would be met again and again
                            raise _damaged(archive, "a size below zero", who)
                        # Or it would keep every one.
                        tar.members = []  # pyrefly: ignore[missing-attribute]
                        yield member
                    mark = tar.offset
            except (tarfile.TarError, EOFError) as error:
                raise _damaged(archive, str(error), who) from error
            # At a broken header, `tarfile` stops as if the archive ended there.
            if os.pread(file.fileno(), _BLOCK, mark) != bytes(_BLOCK):
                raise _damaged(
                    archive, f"no header and no end mark at byte {mark}", who
                )
            start = _behind_zeros(file.fileno(), mark, end)


def _behind_zeros(descriptor: int, start: int, end: int) -> int | None:
    """The first block that is not empty, behind an end mark; None if there is none."""
    while start < end:
        piece = os.pread(descriptor, min(_PIECE, end - start), start)
        if not piece:
            return None
        rest = piece.lstrip(b"\0")
        if rest:
            return start + (len(piece) - len(rest)) // _BLOCK * _BLOCK
        start += len(piece)
    return None


def content_of(archive: Path, member: tarfile.TarInfo, size: int) -> bytes:
    """The first bytes of a member, so many at most."""
    with open(archive, "rb") as file:
        return os.pread(file.fileno(), min(size, member.size), member.offset_data)


def _check_uncompressed(archive: Path, who: str) -> None:
    if not archive.is_file():
        raise FileNotFoundError(f"`{who}` needs the file {archive}, which is missing.")
    if program := unpacked_by(archive):
        raise ValueError(
            f"`{who}` needs uncompressed archives, got {archive}, in which nothing "
            f"can be read by position. Unpack it once with `{program}`."
        )


def unpacked_by(archive: Path) -> str:
    """The program that unpacks a file, by its content; empty if it is not packed."""
    with open(archive, "rb") as file:
        beginning = file.read(8)
    found = [each for mark, each in _PACKED.items() if beginning.startswith(mark)]
    return found[0] if found else ""


def _damaged(archive: Path, what: str, who: str) -> ValueError:
    return ValueError(
        f"`{who}` needs whole tar archives, got {archive}, which is cut off, damaged "
        f"or no tar ({what}). Fetch it again."
    )
