"""Inside the outer box: fork a sealed inner box for each submission, torch already loaded.

The process that forks runs no stranger's line, ever. Each child gets namespaces, a /tmp, a
/dev/shm and a /proc of its own, gives up all capabilities, and is then sealed like any
other guest; when it ends, the kernel ends whatever it left running.
"""

import array
import ctypes
import os
import signal
import socket
from collections.abc import Callable

_libc = ctypes.CDLL(None, use_errno=True)
# user, mount, pid, ipc, uts, net and cgroup namespaces
NAMESPACES = 0x10000000 | 0x00020000 | 0x20000000 | 0x08000000
NAMESPACES |= 0x04000000 | 0x40000000 | 0x02000000
NOSUID, NODEV, NOEXEC, RECURSIVE, PRIVATE = 2, 4, 8, 0x4000, 0x40000
PR_CAPBSET_DROP, PR_SET_NO_NEW_PRIVS, PR_SET_PDEATHSIG = 24, 38, 1
CAPSET = {"x86_64": 126, "aarch64": 91}
CAPABILITIES_V3 = 0x20080522


def _call(what: str, result: int) -> None:
    if result < 0:
        raise OSError(ctypes.get_errno(), f"{what}: {os.strerror(ctypes.get_errno())}")


def serve(control: socket.socket, begin: Callable[[], None]) -> None:
    """Fork a box for every message; `begin` runs in it, on the descriptors sent along."""
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # dead children vanish by themselves
    control.send(b"ready")
    while True:
        message, ancillary, _, _ = control.recvmsg(1, socket.CMSG_SPACE(3 * 4))
        if not message:
            return
        streams = array.array("i", b"".join(data for *_, data in ancillary))
        if os.fork() == 0:
            _become(control, [*streams], begin)
        for stream in streams:
            os.close(stream)


def _become(control: socket.socket, streams: list[int], begin: Callable[[], None]) -> None:
    """The three generations of a box: namespaces; their first process; the guest."""
    try:
        control.close()
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        _call("parent", _libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0))
        _call("unshare", _libc.unshare(NAMESPACES))
        _map_ids()
        if first := os.fork():
            _wait_for(first, streams)
        _call("parent", _libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0))
        _mounts()
        if guest := os.fork():
            _wait_for(guest, streams)
        for place, stream in enumerate(streams):
            os.dup2(stream, place)
        os.closerange(3, 256)
        os.setsid()
        _give_up_capabilities()
        begin()
    finally:
        os._exit(1)


def _wait_for(child: int, streams: list[int]) -> None:
    """Wait as the first process of a namespace does: for the guest, and for orphans."""
    _give_up_capabilities()
    for stream in (*streams, 0, 1, 2):
        os.close(stream)
    while os.wait()[0] != child:
        pass
    os._exit(0)


def _map_ids() -> None:
    uid, gid = os.geteuid(), os.getegid()
    # after unshare the ids read as nobody's; the outer box is always user 1000
    uid, gid = (1000 if uid == 65534 else uid), (1000 if gid == 65534 else gid)
    for name, text in (
        ("setgroups", "deny"),
        ("uid_map", f"{uid} {uid} 1"),
        ("gid_map", f"{gid} {gid} 1"),
    ):
        with open(f"/proc/self/{name}", "w") as file:
            file.write(text)


def _mounts() -> None:
    """Fresh, sized, private: nothing of an earlier submission, nothing for a later one."""
    _call("private", _libc.mount(b"none", b"/", None, RECURSIVE | PRIVATE, None))
    for place, options in (
        (b"/tmp", b"size=128m,nr_inodes=50000,mode=1777"),
        (b"/dev/shm", b"size=64m,nr_inodes=5000,mode=1777"),
    ):
        _call("tmpfs", _libc.mount(b"none", place, b"tmpfs", NOSUID | NODEV, options))
    _call("proc", _libc.mount(b"none", b"/proc", b"proc", NOSUID | NODEV | NOEXEC, None))
    os.chdir("/tmp")


def _give_up_capabilities() -> None:
    for capability in range(64):
        _libc.prctl(PR_CAPBSET_DROP, capability, 0, 0, 0)  # past the last: refused
    header = (ctypes.c_uint32 * 2)(CAPABILITIES_V3, 0)
    nothing = (ctypes.c_uint32 * 6)()
    _call("capset", _libc.syscall(CAPSET[os.uname().machine], header, nothing))
    _call("no new privileges", _libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))
