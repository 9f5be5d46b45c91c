"""The boot archive: the ustar file that the machine gets as its only module.

Members: `init`, `manifest`, the programs `NAME.elf`, then the site's files as `site/...`.
Invariant: the data of every member but `pad` begins at a multiple of 4,096 bytes, so that a
libOS can map it; `pad` members make the room. The size is a multiple of 4,096 too.
"""

import os
import shutil
import tarfile
from dataclasses import dataclass
from pathlib import Path

from targe.report import Failure, say

_PAGE = 4096
_BLOCK = 512
MOST_BYTES = 1 << 30
MOST_FILES = 65536


@dataclass
class Member:
    """A file of the archive, from memory (data) or from the disk (path)."""
    name: str
    size: int
    mtime: int = 0
    data: bytes = None
    path: Path = None


def from_bytes(name, data):
    """A member with this content."""
    return Member(name, len(data), data=data)


def from_file(name, path):
    """A member with the content of a file."""
    status = path.stat()
    return Member(name, status.st_size, int(status.st_mtime), path=path)


def boot_members(init, manifest_text, programs, site=None):
    """All members in order. `programs`: files by name; `site`: a folder or None."""
    members = [from_file("init", _without_symbols(init)), from_bytes("manifest", manifest_text)]
    members += [from_file(name, _without_symbols(path)) for name, path in programs.items()]
    if site is not None:
        members += site_members(site)
    if len(members) > MOST_FILES:
        raise Failure(f"the site has more than {MOST_FILES:,} files")
    total = size(members)
    if total > MOST_BYTES:
        raise Failure(f"the site makes a boot archive of {total >> 20} MB; "
                      f"the limit is {MOST_BYTES >> 20} MB")
    return members


def _without_symbols(program):
    """The copy that the build made of a program, a quarter of its size; else itself."""
    stripped = program.parent / "stripped" / program.name
    return stripped if stripped.exists() else program


def site_members(folder):
    """The files below a folder, in the order of their names."""
    if not folder.is_dir():
        raise Failure(f"the site folder {folder} does not exist")
    root = folder.resolve()
    members = []
    _walk(root, root, "site", (root,), members)
    return members


def _walk(root, folder, prefix, above, members):
    """Adds what is in a folder. `above`: the real folders on the way, to find circles."""
    try:
        entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
    except OSError as error:
        raise Failure(f"cannot read {folder}: {error.strerror}") from error
    for entry in entries:
        name = f"{prefix}/{entry.name}"
        path = Path(entry.path)
        if entry.is_symlink():
            path = path.resolve()
            if not path.is_relative_to(root):
                say(f"skipped {name}: a link that leads out of the site")
                continue
        if path.is_dir():
            if path in above:
                say(f"skipped {name}: a link that leads in a circle")
            else:
                _walk(root, path, name, (*above, path), members)
        elif path.is_file():
            members.append(from_file(name, path))
        else:
            say(f"skipped {name}: not a regular file")


def _header(name, length, mtime=0):
    info = tarfile.TarInfo(name)
    info.size, info.mtime = length, mtime
    try:
        return info.tobuf(tarfile.USTAR_FORMAT, "utf-8", "surrogateescape")
    except ValueError as error:
        raise Failure(f"the name {name!r} is too long: a boot archive takes 100 bytes, "
                      "or 255 with a '/' at the right place") from error


def _up(number, multiple):
    return -(-number // multiple) * multiple


def _padding(position):
    """Size of the `pad` member that lets the next member's data begin a page; None: not needed."""
    if (position + _BLOCK) % _PAGE == 0:
        return None
    return (-position - 2 * _BLOCK) % _PAGE


def size(members):
    """Size of the archive that `write` makes of the members."""
    position = 0
    for member in members:
        pad = _padding(position)
        if pad is not None:
            position += _BLOCK + pad
        position += _BLOCK + _up(member.size, _BLOCK)
    return _up(position + 2 * _BLOCK, _PAGE)


def write(members, file):
    """Writes the archive to a binary file at its beginning."""
    position = 0
    for member in members:
        pad = _padding(position)
        if pad is not None:
            position += file.write(_header("pad", pad) + bytes(pad))
        position += file.write(_header(member.name, member.size, member.mtime))
        assert position % _PAGE == 0
        position += _copy(member, file)
        position += file.write(bytes(-position % _BLOCK))
    file.write(bytes(_up(position + 2 * _BLOCK, _PAGE) - position))
    file.flush()


def _copy(member, file):
    if member.path is None:
        return file.write(member.data)
    before = file.tell()
    try:
        with open(member.path, "rb") as source:
            shutil.copyfileobj(source, file, 1 << 20)
    except OSError as error:
        raise Failure(f"cannot read {member.path}: {error.strerror}") from error
    if file.tell() - before != member.size:
        raise Failure(f"{member.path} changed while it was being packed")
    return member.size
