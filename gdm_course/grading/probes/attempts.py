"""What the live probes try inside a box. Each returns 1 if the promise held, else 0.

This file travels into the box as the text of a cell; nothing here runs outside of one.
"""

import contextlib
import ctypes
import os
import signal
import socket
import subprocess
import sys
import time


def _errno(action) -> int:
    """The errno that an action fails with; 0 if it succeeds."""
    try:
        action()
    except OSError as error:
        return error.errno or -1
    return 0


def _libc(number: int, *arguments) -> int:
    library = ctypes.CDLL(None, use_errno=True)
    return ctypes.get_errno() if library.syscall(number, *arguments) < 0 else 0


def host_file(secret: str, port: int) -> int:
    """A file of the host, its password file and the judge's folders are not there."""
    names = [secret, "/etc/shadow", "/root/.bashrc", "/home", "/var/log"]
    return int(all(_errno(lambda n=name: os.stat(n) and open(n).close()) for name in names))


SIGNS = (b"BEGIN SOLUTION", b"A question is data: what to ask of a student")


def no_answers(secret: str, port: int, *tops: str) -> int:
    """No solution and no check of the course is in any folder that can be read."""
    known = ("/usr", "/lib", "/opt", "/srv", "/home", sys.prefix, sys.base_prefix)
    tops = tops or (("/",) if _listed("/") else known)  # without mounts "/" has no list
    return int(not any(_answers(folder, names) for folder, names in _folders(tops)))


def _folders(tops):
    for top in tops:
        for folder, inner, names in os.walk(top):
            inner[:] = [n for n in inner if f"{folder}{n}" not in ("/proc", "/sys", "/dev")]
            if "gdm_course" in folder or "solutions" in folder:
                yield folder, names


def _answers(folder, names) -> bool:
    for name in names:
        with contextlib.suppress(OSError), open(f"{folder}/{name}", "rb") as file:
            text = file.read()
            if any(sign in text for sign in SIGNS):
                return True
    return False


def write_outside(secret: str, port: int) -> int:
    """Nothing outside the sized folders can be written."""
    places = [
        "/",
        "/usr",
        "/etc",
        "/dev",
        "/proc/sys/kernel",
        "/var",
        "/course",
        sys.prefix,
    ]
    return int(all(_errno(lambda p=p: open(f"{p}/x", "w")) for p in places))


def host_loopback(secret: str, port: int) -> int:
    """A server on the host's loopback cannot be reached."""
    return int(bool(_errno(lambda: socket.create_connection(("127.0.0.1", port), 1))))


def odd_sockets(secret: str, port: int) -> int:
    """Sockets to the hypervisor, raw packets, kernel crypto and netlink are refused."""
    families = (40, 17, 38, 16)
    return int(all(_errno(lambda f=f: socket.socket(f, socket.SOCK_RAW)) for f in families))


def forks(secret: str, port: int) -> int:
    """Two hundred processes at once are too many."""
    children, refused = [], 0
    for _ in range(200):
        try:
            pid = os.fork()
        except OSError:
            refused = 1
            break
        if pid == 0:
            time.sleep(20)
            os._exit(0)
        children.append(pid)
    for pid in children:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
    return refused


def disk(secret: str, port: int) -> int:
    """No folder that can be written takes 300 MiB."""
    held = 1
    for place in ("/tmp", "/dev/shm", "/dev", "/run", "/var/tmp", os.getcwd()):
        name = f"{place}/gdm-fill-{os.getpid()}"
        with contextlib.suppress(OSError):
            with open(name, "wb", buffering=0) as file:
                for _ in range(300):
                    if file.write(bytes(1 << 20)) < 1 << 20:
                        break
            held &= os.path.getsize(name) < 300 << 20
        with contextlib.suppress(OSError):
            os.unlink(name)
    return held


def core_pattern(secret: str, port: int) -> int:
    """The host's kernel settings cannot be changed."""
    names = ("core_pattern", "modprobe", "hotplug")
    return int(all(_errno(lambda n=n: open(f"/proc/sys/kernel/{n}", "w")) for n in names))


def first_environment(secret: str, port: int) -> int:
    """The environment of the process that started the box cannot be read."""
    for pid in (p for p in _listed("/proc") if p.isdigit()):
        with contextlib.suppress(OSError), open(f"/proc/{pid}/environ", "rb") as file:
            if b"GDM_PROBE_SECRET" in file.read():
                return 0
    return 1


def _listed(place: str) -> list[str]:
    try:
        return os.listdir(place)
    except OSError:
        return []


def trace(secret: str, port: int) -> int:
    """Other processes cannot be traced or read."""
    number = 101 if os.uname().machine == "x86_64" else 117
    return int(_libc(number, 16, os.getppid(), 0, 0) != 0)


def namespaces(secret: str, port: int) -> int:
    """No new user namespace, mount or root folder."""
    flags, library = 0x10000000, ctypes.CDLL(None, use_errno=True)
    made = (
        library.unshare(flags) == 0 or library.mount(b"x", b"/tmp", b"tmpfs", 0, None) == 0
    )
    return int(not made and bool(_errno(lambda: os.chroot("/tmp"))))


def kill_others(secret: str, port: int) -> int:
    """A signal to everybody and to the parent ends neither the judge nor this process."""
    for pid in (-1, os.getppid()):
        with contextlib.suppress(OSError):
            os.kill(pid, signal.SIGTERM if pid == -1 else signal.SIGKILL)
    return 1


def sleeper(secret: str, port: int) -> int:
    """Start a process that wants to outlive the box; the host looks for it afterwards."""
    subprocess.Popen(["sleep", f"{port}.25"], start_new_session=True)
    return 1


def flood(secret: str, port: int) -> int:
    """Print without end: the box is to be closed after some 64 MiB."""
    while True:
        os.write(2, b"x" * 65536)
