"""What the box's first process does to itself before any stranger's line runs.

Limits on resources, a seccomp filter, and (without namespaces) a Landlock rule set, all by
system calls through ctypes: the box needs no library for it. Every call is checked; a seal
that does not hold ends the process.
"""

import ctypes
import os
import platform
import struct
import sys

from gdm_course.grading.guest.syscalls import (
    CLONE,
    CLONE3,
    DENIED,
    FCNTL,
    IOCTL,
    MMAP,
    PRCTL,
    SOCKET,
)

try:
    import resource
except ImportError:  # Windows: the ladder says why there is no box
    resource = None

MIB = 1024 * 1024
PR_SET_NO_NEW_PRIVS, PR_SET_SECCOMP, PR_SET_THP_DISABLE = 38, 22, 41
ALLOW, ERRNO, EPERM, ENOSYS = 0x7FFF0000, 0x00050000, 1, 38
ARCHITECTURE = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
NEW_NAMESPACES = 0x7E020000  # the flags CLONE_NEW* of clone
SHARED, ANONYMOUS = 0x01, 0x20  # MAP_SHARED, MAP_ANONYMOUS
RECORD_LOCKS = (6, 7, 37, 38)  # F_SETLK, F_SETLKW, and those of open files
TTY_INJECTION = (0x5412, 0x541C)  # TIOCSTI, TIOCLINUX
AF_UNIX = 1

_libc = None if sys.platform == "win32" else ctypes.CDLL(None, use_errno=True)


def _call(what: str, result: int) -> int:
    if result < 0:
        raise OSError(ctypes.get_errno(), f"{what}: {os.strerror(ctypes.get_errno())}")
    return result


def limit(data_mib: int, file_mib: int, processes: int, cpu_seconds: int) -> None:
    """Set limits that nothing started later can raise.

    Args:
        data_mib: private writable memory of each process.
        file_mib: size of any one file.
        processes: processes and threads of this user in this namespace.
        cpu_seconds: of each process.
    """
    for what, value in (
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_DATA, data_mib * MIB),
        (resource.RLIMIT_FSIZE, file_mib * MIB),
        (resource.RLIMIT_NPROC, processes),
        (resource.RLIMIT_NOFILE, 512),
        (resource.RLIMIT_MSGQUEUE, 0),
        (resource.RLIMIT_MEMLOCK, 0),
        (resource.RLIMIT_CPU, cpu_seconds),
    ):
        resource.setrlimit(what, (value, value))
    # of a huge page, all but 4 KiB can be given back, and 2 MiB stay: nobody sees them
    _libc.prctl(PR_SET_THP_DISABLE, 1, 0, 0, 0)


# seccomp ----------------------------------------------------------------------------------


def _op(code: int, k: int, jt: int = 0, jf: int = 0) -> bytes:
    return struct.pack("<HBBI", code, jt, jf, k)


LOAD, EQUAL, AT_LEAST, ANY_BIT, RETURN = 0x20, 0x15, 0x35, 0x45, 0x06


def _program(
    machine: str, unix_sockets: bool, shared_memory: bool, record_locks: bool
) -> bytes:
    """The filter: whatever is named in `syscalls.py` fails with EPERM, the rest passes."""
    no = _op(RETURN, ERRNO | EPERM)
    load_arch, load_number = _op(LOAD, 4), _op(LOAD, 0)
    code = load_arch + _op(EQUAL, ARCHITECTURE[machine], 1, 0) + no + load_number
    code += _op(AT_LEAST, 0x40000000, 0, 1) + no  # the x32 calls of x86_64
    for number in DENIED[machine]:
        code += _op(EQUAL, number, 0, 1) + no
    # glibc falls back to clone, whose flags a filter can read
    code += _op(EQUAL, CLONE3, 0, 1) + _op(RETURN, ERRNO | ENOSYS)
    family = _op(EQUAL, AF_UNIX if unix_sockets else 0xFFFF, 1, 0) + no
    code += _on(SOCKET[machine], 16, family)
    code += _on(CLONE[machine], 16, _op(ANY_BIT, NEW_NAMESPACES, 0, 1) + no)
    code += _on(IOCTL[machine], 24, _none_of(TTY_INJECTION))
    code += _on(PRCTL[machine], 16, _none_of((PR_SET_THP_DISABLE,)))
    if not record_locks:
        code += _on(FCNTL[machine], 24, _none_of(RECORD_LOCKS))
    if not shared_memory:
        both = _op(ANY_BIT, SHARED, 0, 2) + _op(ANY_BIT, ANONYMOUS, 0, 1) + no
        code += _on(MMAP[machine], 40, both)
    return code + _op(RETURN, ALLOW)


def _none_of(values: tuple[int, ...]) -> bytes:
    """Refuse the call if the argument that is loaded has one of these values."""
    no = _op(RETURN, ERRNO | EPERM)
    return b"".join(_op(EQUAL, value, 0, 1) + no for value in values)


def _on(number: int, argument: int, then: bytes) -> bytes:
    """If the call has this number, load one of its arguments and go through `then`."""
    body = _op(LOAD, argument) + then + _op(LOAD, 0)
    return _op(EQUAL, number, 0, len(body) // 8) + body


def filter_calls(
    unix_sockets: bool = True, shared_memory: bool = True, record_locks: bool = True
) -> None:
    """Install the filter for this process and all that it will start.

    Args:
        unix_sockets: whether processes may talk through them.
        shared_memory: whether memory without a name may be shared: its pages outlive
            their mapping, and not every judge can count them.
        record_locks: whether parts of files may be locked: the kernel keeps a note of each.
    """
    program = _program(platform.machine(), unix_sockets, shared_memory, record_locks)
    buffer = ctypes.create_string_buffer(program, len(program))
    header = struct.pack("@HP", len(program) // 8, ctypes.addressof(buffer))
    _call("no new privileges", _libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))
    _call("seccomp", _libc.prctl(PR_SET_SECCOMP, 2, ctypes.c_char_p(header), 0, 0))


# Landlock ---------------------------------------------------------------------------------

CREATE_RULESET, ADD_RULE, RESTRICT_SELF = 444, 445, 446
READ, READ_DIR, EVERYTHING = 0b1101, 0b1000, 0x1FFF
FILE_ONLY = 0xC007  # what may be granted on a file: execute, write, read, truncate, ioctl


def landlock_abi() -> int:
    """The kernel's version of Landlock; 0 without it."""
    return max(0, _libc.syscall(CREATE_RULESET, None, 0, 1))


def landlock(read: list[str], write: list[str], folders: list[str]) -> None:
    """Allow files below `read` to be read and run, those below `write` to be changed too.

    What is below `folders` can be listed, nothing more.

    Where the kernel can (ABI 4, 6), TCP, abstract sockets and signals to processes outside
    are refused as well.
    """
    abi = landlock_abi()
    handled = EVERYTHING | (0x2000 * (abi >= 2)) | (0x4000 * (abi >= 3))
    handled |= 0x8000 * (abi >= 5)
    fields = [handled] + [0b11] * (abi >= 4) + [0b11] * (abi >= 6)
    attributes = struct.pack(f"<{len(fields)}Q", *fields)
    rules = _call("landlock", _libc.syscall(CREATE_RULESET, attributes, len(attributes), 0))
    for paths, access in ((read, READ), (write, handled), (folders, READ_DIR)):
        for path in paths:
            _allow(rules, path, access)
    _call("no new privileges", _libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))
    _call("landlock", _libc.syscall(RESTRICT_SELF, rules, 0))
    os.close(rules)


def _allow(rules: int, path: str, access: int) -> None:
    try:
        place = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except OSError:  # not on this machine, or out of reach anyway
        return
    if not os.path.isdir(path):
        access &= FILE_ONLY
    rule = struct.pack("<Qi", access, place)
    _call(f"landlock {path}", _libc.syscall(ADD_RULE, rules, 1, rule, 0))
    os.close(place)
