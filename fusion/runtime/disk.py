"""What a disk, or a folder on it, refuses: one sentence for each, whichever library was told."""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Iterator

# By what the system says: what that means, and the way out.
_FAULTS = {
    errno.ENOSPC: ("no space left on the disk", "free some space, or name a folder on another disk"),
    errno.EDQUOT: ("the quota of this user is used up", "free some space, or name a folder on another disk"),
    errno.EFBIG: ("the file would be larger than is allowed here", "raise the limit (ulimit -f), or use another disk"),
    errno.EROFS: ("the disk is read-only", "name a folder that can be written"),
    errno.EACCES: ("this user may not do that there", "set the folder's permissions, or name another"),
    errno.EPERM: ("this user may not do that there", "set the folder's permissions, or name another"),
    errno.EIO: ("the disk fails to read or write", "look at the system's log (dmesg), and use another disk"),
    errno.ESTALE: ("the network disk has lost the file", "mount it again"),
    errno.ENXIO: ("the disk is gone", "mount it again"),
    errno.ENODEV: ("the disk is gone", "mount it again"),
    errno.EMFILE: ("too many files are open in this process", "raise the limit (ulimit -n)"),
    errno.ENFILE: ("too many files are open on this machine", "end other programs"),
    errno.ENAMETOOLONG: ("the name of a file is too long", "give a shorter one"),
    errno.ELOOP: ("links lead in a circle", "remove one of them"),
    errno.ENOENT: ("there is no such file or folder", "give one that is there"),
    errno.ENOTDIR: ("there is a file where a folder should be", "give another folder, or move the file away"),
    errno.EEXIST: ("there is something of that name already", "give another folder, or move it away"),
    errno.EISDIR: ("there is a folder where a file should be", "give another file, or move the folder away"),
    errno.ENOTEMPTY: ("the folder is not empty", "give another one, or empty it"),
    errno.EXDEV: ("files cannot be renamed from one disk to another", "name a folder on one disk"),
}
# How Rust and C++ write the number of an error, and words that a library gives instead of it.
_NUMBERED = re.compile(r"\b(?:os error|errno)[ :=]*(\d+)", re.IGNORECASE)
_SPELT = {
    os.strerror(number).lower(): number
    for number in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EIO, errno.ESTALE)
}


def disk_fault(error: BaseException) -> str | None:
    """What is wrong with the disk and the way out, where that is why `error` was raised; None where it is not.

    Libraries wrap the system's error in types of their own and keep only its number or its words.
    """
    for one in _chain(error):
        number = _number(one)
        if number in _FAULTS:
            fault, way_out = _FAULTS[number]
            name = getattr(one, "filename", None)
            return f"{fault}{f' ({os.fsdecode(name)})' if isinstance(name, (str, bytes)) else ''}: {way_out}"
    return None


def _number(error: BaseException) -> int | None:
    if isinstance(error, OSError) and error.errno is not None:
        return error.errno
    text = str(error)
    written = _NUMBERED.search(text)
    if written:
        return int(written.group(1))
    return next((number for words, number in _SPELT.items() if words in text.lower()), None)


def _chain(error: BaseException) -> Iterator[BaseException]:
    """The error, and those that it was raised from."""
    seen: set[int] = set()
    one: BaseException | None = error
    while one is not None and id(one) not in seen:
        seen.add(id(one))
        yield one
        one = one.__cause__
