"""What a machine offers: processor, GPU, memory, network and sandbox, one `Finding` each.

No function here raises, waits long or changes the machine.
"""

import os
import shutil
import socket
import subprocess
import sys
import threading
from dataclasses import dataclass
from pathlib import Path

from gdm_course.environment import cores, on

GIB = 2**30
HOSTS = ("pypi.org", "ossci-datasets.s3.amazonaws.com")
PATIENCE = 4.0  # seconds for the whole network check


@dataclass(frozen=True)
class Finding:
    """One line of the report.

    Attributes:
        state: "ok", "note" (the lectures run, something else does not) or "fail".
        what: the thing looked at, one word.
        found: what was seen, with units.
        remedy: what to do, empty when there is nothing to do.
    """

    state: str
    what: str
    found: str
    remedy: str = ""


def check_cpu() -> Finding:
    """How many cores this process may use, and how many threads torch will take."""
    number, limit = cores(), os.environ.get("OMP_NUM_THREADS")
    found = f"{number} core" + "s" * (number > 1)
    found += f", OMP_NUM_THREADS={limit}" if limit else ""
    if number >= 2:
        return Finding("ok", "cpu", found)
    return Finding(
        "note",
        "cpu",
        found,
        "lectures are timed on two cores: expect about twice the minutes",
    )


def check_gpu() -> Finding:
    """Whether torch can compute on a GPU. None is needed by a lecture."""
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available():
        name = torch.cuda.get_device_name(0)
        memory = torch.cuda.get_device_properties(0).total_memory / GIB
        return Finding(
            "ok", "gpu", f"{torch.cuda.device_count()} x {name}, {memory:.0f} GiB"
        )
    if torch is not None and torch.backends.mps.is_available():
        return Finding("ok", "gpu", "Apple GPU (mps)")
    if shutil.which("nvidia-smi"):
        remedy = "install torch for your driver: https://pytorch.org/get-started"
        return Finding("note", "gpu", "nvidia-smi is here, but torch sees no GPU", remedy)
    return Finding("ok", "gpu", "none; no lecture needs one")


def check_memory() -> Finding:
    """Memory this process may use, container limits included. A lecture needs 1.5 GB."""
    sizes = [_physical_memory(), _cgroup_memory()]
    known = [size for size in sizes if size]
    if not known:
        return Finding("note", "memory", "unknown on this system", "a lecture needs 1.5 GB")
    size = min(known) / GIB
    if size >= 3.5:
        return Finding("ok", "memory", f"{size:.1f} GiB")
    return Finding(
        "note", "memory", f"{size:.1f} GiB", "close other programs: a lecture needs 1.5 GB"
    )


def _physical_memory() -> int | None:
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):  # Windows
        return None


def _cgroup_memory() -> int | None:
    try:
        return int(Path("/sys/fs/cgroup/memory.max").read_text())
    except (OSError, ValueError):  # no cgroup, or "max"
        return None


def check_network(hosts: tuple[str, ...] = HOSTS, port: int = 443) -> Finding:
    """Whether the package registry and a data host answer, within four seconds in all."""
    if on("GDM_OFFLINE"):
        return Finding("ok", "network", "not tried: GDM_OFFLINE is set")
    proxy = os.environ.get("https_proxy") or os.environ.get("HTTPS_PROXY")
    if proxy:
        return Finding(
            "ok", "network", f"not tried: through the proxy {proxy.rpartition('@')[2]}"
        )
    answered = _answering(hosts, port)
    if missing := [host for host in hosts if host not in answered]:
        remedy = "bundled data still works; set GDM_OFFLINE=1 to stop trying"
        return Finding("note", "network", f"no answer from {', '.join(missing)}", remedy)
    return Finding("ok", "network", f"{', '.join(hosts)} answer")


def _answering(hosts: tuple[str, ...], port: int) -> set[str]:
    """Connect to all hosts at once; threads, because a name look-up has no time limit."""
    answered: set[str] = set()

    def knock(host: str) -> None:
        try:
            socket.create_connection((host, port), timeout=PATIENCE / 2).close()
            answered.add(host)
        except OSError:
            pass

    threads = [threading.Thread(target=knock, args=(host,), daemon=True) for host in hosts]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE / len(hosts))
    return set(answered)


def check_sandbox() -> Finding:
    """Whether bubblewrap can make a namespace, to run strangers' code in (Linux only)."""
    what = "sandbox"
    if sys.platform != "linux":
        return Finding(
            "note", what, f"none on {sys.platform}", "grade on Linux or in WSL 2"
        )
    if not (bwrap := shutil.which("bwrap")):
        remedy = "apt-get install bubblewrap (graders only)"
        return Finding("note", what, "bwrap not found", remedy)
    if refusal := _refusal(bwrap):
        remedy = "allow user namespaces (graders only)"
        return Finding("note", what, f"bwrap fails: {refusal}", remedy)
    return Finding("ok", what, f"{bwrap} makes namespaces")


def _refusal(bwrap: str) -> str | None:
    """Try a namespace; returns the reason why there is none, or None."""
    command = [bwrap, "--ro-bind", "/", "/", "--unshare-all", "--die-with-parent", "true"]
    try:
        subprocess.run(command, check=True, capture_output=True, timeout=5)
    except (subprocess.SubprocessError, OSError) as error:
        said = getattr(error, "stderr", None) or str(error).encode()
        return said.decode(errors="replace").strip().split("\n")[-1]
    return None
