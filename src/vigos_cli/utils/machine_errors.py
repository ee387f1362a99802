"""Say in one line what is wrong with the machine, such as a full disk or a missing permission.

>>> machine_error(OSError(28, "No space left on device"), Path("runs/a"))
'runs/a: the disk is full: make space, then repeat the command with resume=auto'

Errors of Python, of safetensors and of pyarrow are recognised, also if another error was raised from them.
"""

from __future__ import annotations

import errno
import os
import re
import tempfile
from collections.abc import Iterator
from pathlib import Path

from vigos_cli.utils.errors import UserError

AGAIN = "then repeat the command with resume=auto"
FULL = (errno.ENOSPC, errno.EDQUOT)
WORDS = {  # what each error of the operating system means, and what to do
    errno.ENOSPC: f"the disk is full: make space, {AGAIN}",
    errno.EDQUOT: f"your quota of this disk is used up: make space, {AGAIN}",
    errno.EFBIG: f"a file would be larger than this shell allows: raise the limit (ulimit -f), {AGAIN}",
    errno.EROFS: "this file system can only be read: choose another folder",
    errno.EACCES: "this user has no permission: change the owner or the mode, or choose another folder",
    errno.EPERM: "this user has no permission: change the owner or the mode, or choose another folder",
    errno.EMFILE: f"too many files are open: raise the limit (ulimit -n), {AGAIN}",
    errno.ENFILE: f"too many files are open on this machine: end other programs, {AGAIN}",
    errno.EIO: f"the disk reports an error (Input/output error): check it, {AGAIN}",
    errno.ESTALE: f"the network file system lost this file: check the connection, {AGAIN}",
    errno.ENODEV: f"the disk is gone: check it, {AGAIN}",
    errno.ENOTCONN: f"the disk is not connected: check it, {AGAIN}",
}
GONE = (errno.ENOENT, errno.ENOTDIR)  # of a file inside the folder of the run
REMOVED = f"this was removed while the run used it: leave the folder alone, {AGAIN}"
THREADS = (
    "no more threads or processes can be started: raise the limit on processes (ulimit -u) or on memory "
    f"(ulimit -v), {AGAIN}"
)
MEMORY = f"out of memory: end other programs, or raise the limit on memory (ulimit -v), {AGAIN}"
# PyTorch's allocators, the GPU libraries and bitsandbytes raise RuntimeError with different messages.
# oneDNN says `could not create a primitive` if it gets none for a convolution.
NO_MEMORY = re.compile(
    r"out of memory|(?:can't|cannot) allocate memory|bad_alloc|ALLOC_FAILED|failed to map segment"
    r"|could not create a primitive",
    re.I,
)
# Errors that say nothing about the file that was read: another one would have had them too.
OF_THE_MACHINE = (
    errno.EMFILE, errno.ENFILE, errno.EIO, errno.ESTALE, errno.ENODEV, errno.ENOTCONN, errno.ENOMEM,
)  # fmt: skip
# Libraries written in Rust and C++ give the number of the operating system's error in their message only.
NUMBER = re.compile(r"\(os error (\d+)\)|\[Errno (\d+)\]|\berrno:? (\d+)")
NAMED = re.compile(r'at path "([^"]+)"')
FEW_THREADS = re.compile(r"can't start new thread|thread constructor failed|Resource temporarily unavailable")
LITTLE = 1 << 16  # bytes: a disk with fewer is full


def machine_error(error: BaseException, out: Path) -> str | None:
    """The line about the first fault of the machine in an error and its causes; None if there is none.

    `out` is the folder of the run, which is named if the error names no file.
    """
    for one in chain(error):
        if FEW_THREADS.search(str(one)) and isinstance(one, OSError | RuntimeError):
            return THREADS
        if is_out_of_memory(one):
            return MEMORY
        number, file = number_of(one), getattr(one, "filename", None) or _named(one)
        if number in FULL:
            return f"{_full_place(file, out)}: {WORDS[number]}"
        if number in WORDS:
            return f"{_text(file) or out}: {WORDS[number]}"
        if number in GONE and file and Path(os.path.abspath(_text(file))).is_relative_to(out.absolute()):
            return f"{_text(file)}: {REMOVED}"
    return None


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error means that memory ran out, on the GPU or on the CPU."""
    if isinstance(error, MemoryError):
        return True
    if isinstance(error, OSError):
        return error.errno == errno.ENOMEM
    return isinstance(error, RuntimeError | ImportError) and bool(NO_MEMORY.search(str(error)))


def explained(error: BaseException, out: Path) -> BaseException:
    """A UserError with the line about the machine; the error itself if the machine is not its reason."""
    if isinstance(error, UserError) or not (line := machine_error(error, out)):
        return error
    made = UserError(line)
    made.__cause__ = error
    return made


def chain(error: BaseException) -> Iterator[BaseException]:
    """An error and those that it was raised from, the newest first."""
    seen: set[int] = set()
    left: BaseException | None = error
    while left is not None and id(left) not in seen:
        seen.add(id(left))
        yield left
        left = left.__cause__ or (None if left.__suppress_context__ else left.__context__)


def number_of(error: BaseException) -> int | None:
    """The number of the operating system's error; None if this is another kind of error."""
    if isinstance(error, OSError) and error.errno is not None:
        return error.errno
    # Any other type may quote a message of a user's data or of a server.
    if not isinstance(error, OSError | RuntimeError) and type(error).__name__ != "SafetensorError":
        return None
    found = NUMBER.search(str(error))
    return int(next(filter(None, found.groups()))) if found else None


def _named(error: BaseException) -> str | None:
    """The file that safetensors names in its message."""
    found = NAMED.search(str(error)) if type(error).__name__ == "SafetensorError" else None
    return found[1] if found else None


def _full_place(file: object, out: Path) -> str:
    """The file or folder on the full disk: writes that fail name none, and the disk may be another one."""
    if file:
        return _text(file)
    if _is_full(out):
        return str(out)
    temporary = os.environ.get("TMPDIR") or tempfile.gettempdir()
    if _is_full(Path(temporary)):
        return f"{temporary} (temporary files; set TMPDIR to another folder)"
    for number, name in ((1, "standard output"), (2, "standard error")):
        try:
            room = os.fstatvfs(number)
        except OSError:
            continue
        if os.path.isfile(f"/dev/fd/{number}") and room.f_bavail * room.f_frsize < LITTLE:
            return name
    return str(out)


def _is_full(folder: Path) -> bool:
    try:
        room = os.statvfs(folder)
    except OSError:
        return False
    return room.f_bavail * room.f_frsize < LITTLE


def _text(file: object) -> str:
    return os.fsdecode(file) if isinstance(file, str | bytes | os.PathLike) else ""
