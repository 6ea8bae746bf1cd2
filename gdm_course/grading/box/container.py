"""Rung Lc: a container by docker or podman, the way for macOS and Windows."""

import os
import shutil
import subprocess
from functools import cache

from gdm_course.grading.box import places
from gdm_course.grading.box.rungs import (
    ENVIRONMENT,
    LIMITS,
    SHM_MIB,
    TMP_MIB,
    Site,
    guest_command,
)

IMAGE = "GDM_BOX_IMAGE"  # names an image that has Python, torch and IPython


def engine() -> str | None:
    """Podman if there is one (no daemon of root), else docker."""
    return shutil.which("podman") or shutil.which("docker")


@cache
def container_missing() -> str | None:
    """Why no container can be started, or None."""
    if (program := engine()) is None:
        return "neither podman nor docker is installed"
    if not os.environ.get(IMAGE):
        return f"{IMAGE} names no image with Python, torch and IPython"
    try:
        subprocess.run([program, "info"], check=True, capture_output=True, timeout=20)
    except (OSError, subprocess.SubprocessError):
        return f"'{program} info' fails: is its daemon running?"
    return _unfit(program, os.environ[IMAGE])


def _unfit(program: str, image: str) -> str | None:
    """Why an image cannot be used, or None: it must have Python, and no course."""
    look = "import importlib.util as u, sys; sys.exit(3 * bool(u.find_spec('gdm_course')))"
    command = [program, "run", "--rm", "--network", "none", image, "python", "-c", look]
    try:
        code = subprocess.run(command, capture_output=True, timeout=120).returncode
    except (OSError, subprocess.SubprocessError):
        code = 1
    if code == 3:
        return f"the image {image} holds the course, answers included: make one without"
    return f"the image {image} does not start Python" if code else None


def container(site: Site) -> list[str]:
    """The command line: no network, read-only, no capabilities, bounded."""
    command = [engine() or "docker", "run", "--rm", "--interactive", "--init"]
    command += ["--network", "none", "--read-only", "--cap-drop", "ALL", "--ipc", "private"]
    command += ["--security-opt", "no-new-privileges", "--user", "65534:65534"]
    command += ["--memory", "2g", "--memory-swap", "2g", "--cpus", "2"]
    command += ["--pids-limit", str(LIMITS["processes"]), "--shm-size", f"{SHM_MIB}m"]
    command += ["--tmpfs", f"/tmp:size={TMP_MIB}m,mode=1777,exec", "--workdir", "/tmp"]
    command += ["--volume", f"{site.stage}:/course:ro"]
    for part in places.PARTS:  # of an image that is the grader's own, too
        command += ["--tmpfs", f"{(places.ROOT / part).as_posix()}:ro,size=64k"]
    for name, value in ENVIRONMENT.items():
        if name != "PATH":  # the image has its own
            command += ["--env", f"{name}={value}"]
    guest = guest_command("/course", {"limits": LIMITS, "seccomp": {}})
    return [*command, os.environ.get(IMAGE, ""), "python", *guest[1:]]
