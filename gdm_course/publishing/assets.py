"""Scripts that pages load from beside them, so that they open without a network."""

import shutil
import subprocess
from pathlib import Path

from gdm_course.publishing.execute import BUILD

PACKAGES = {"mathjax": "mathjax@3", "reveal.js": "reveal.js@4"}
PARTS = {"mathjax": "es5", "reveal.js": "."}
CDN = {
    "mathjax": "https://cdn.jsdelivr.net/npm/mathjax@3/es5",
    "reveal.js": "https://cdn.jsdelivr.net/npm/reveal.js@4",
}


def installed(name: str) -> Path | None:
    """Install an npm package into build/npm, once.

    Returns:
        The folder to copy; None, with a printed reason, without npm or a network.
    """
    folder = BUILD / "npm" / "node_modules" / name / PARTS[name]
    if folder.is_dir():
        return folder
    if not (npm := shutil.which("npm")):
        print(f"npm is not installed: pages will load {name} from the network instead")
        return None
    (BUILD / "npm").mkdir(parents=True, exist_ok=True)
    command = [npm, "install", "--no-audit", "--no-fund", "--ignore-scripts"]
    command += ["--loglevel=error", "--prefix", str(BUILD / "npm"), PACKAGES[name]]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    if done.returncode == 0 and folder.is_dir():
        return folder
    print(f"npm could not fetch {name}, pages will load it from the network: {done.stderr}")
    return None


def place(name: str, target: Path) -> bool:
    """Copy a package into `target/<name>`, and say whether that worked."""
    if (target / name).is_dir():
        return True
    if (source := installed(name)) is None:
        return False
    shutil.copytree(source, target / name)
    return True
