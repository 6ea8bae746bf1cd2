"""A JupyterLab with settings of its own, for a test or a script to visit."""

import json
import os
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

SETTINGS = {
    "apputils-extension/notification": {"fetchNews": "false", "checkForUpdates": False},
    "notebook-extension/tracker": {"windowingMode": "none"},  # all cells are in the page
}


def free_port() -> int:
    """A port that nothing listens on at this moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@contextmanager
def jupyterlab(
    folder: Path, env: dict[str, str] | None = None, module: Sequence[str] = ("jupyterlab",)
) -> Iterator[str]:
    """Serve a folder with JupyterLab, with its own settings, and stop it afterwards.

    Args:
        folder: what the server shows.
        env: environment of the server and its kernels; this process's when None.
        module: what Python runs, such as ("gdm_course", "lab").

    Yields:
        The server's address, with `{}` for the path and with its token.
    """
    port, token = free_port(), os.urandom(8).hex()
    with tempfile.TemporaryDirectory() as home:
        env = (os.environ if env is None else env) | _settings(Path(home))
        command = [sys.executable, "-m", *module, "--no-browser", "--allow-root"]
        command += [f"--ServerApp.port={port}", f"--IdentityProvider.token={token}"]
        command += ["--ServerApp.port_retries=0", "--LabApp.expose_app_in_browser=True"]
        with (Path(home) / "log").open("w") as log:
            server = subprocess.Popen(command, cwd=folder, env=env, stdout=log, stderr=log)
        try:
            _wait(f"http://127.0.0.1:{port}/api?token={token}", server, Path(home) / "log")
            yield f"http://127.0.0.1:{port}/{{}}?token={token}&reset"
        finally:
            server.terminate()
            server.wait(30)


def _settings(home: Path) -> dict[str, str]:
    """Write JupyterLab's settings below `home`; returns the variables that point there."""
    for name, values in SETTINGS.items():
        file = home / "settings" / "@jupyterlab" / f"{name}.jupyterlab-settings"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(values))
    return {
        "JUPYTERLAB_SETTINGS_DIR": str(home / "settings"),
        "JUPYTERLAB_WORKSPACES_DIR": str(home / "workspaces"),
        "JUPYTER_CONFIG_DIR": str(home / "config"),
        "JUPYTER_RUNTIME_DIR": str(home / "runtime"),
        "IPYTHONDIR": str(home / "ipython"),
    }


def _wait(url: str, server: subprocess.Popen, log: Path, patience: float = 90) -> None:
    """Wait until a server answers; raises RuntimeError with its log if it does not."""
    end = time.monotonic() + patience
    while time.monotonic() < end and server.poll() is None:
        try:
            urllib.request.urlopen(url, timeout=2).close()
            return
        except OSError:
            time.sleep(0.2)
    raise RuntimeError(f"JupyterLab did not start: {log.read_text()[-2000:]}")
