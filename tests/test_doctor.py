"""The doctor: every line is true of the machine it is told about, and none hangs."""

import socket
import sys
import threading
import types

import pytest

from gdm_course import doctor, machine


def test_each_check_gives_one_line(monkeypatch):
    monkeypatch.setenv("GDM_OFFLINE", "1")
    for check in doctor.CHECKS:
        finding = check()
        assert finding.state in doctor.MARKS
        assert finding.found
        assert "\n" not in doctor.render(finding)
        assert finding.state == "ok" or finding.remedy, f"{finding.what} has no remedy"


def test_main_fails_only_on_a_failure(monkeypatch, capsys):
    note = machine.Finding("note", "disk", "1 GiB", "free some")
    monkeypatch.setattr(doctor, "CHECKS", (lambda: note,))
    assert doctor.main() == 0
    fail = machine.Finding("fail", "torch", "missing", "install it")
    monkeypatch.setattr(doctor, "CHECKS", (lambda: note, lambda: fail))
    assert doctor.main() == 1
    out = capsys.readouterr().out
    assert "→ install it" in out
    assert "needs attention: torch" in out


def test_old_or_broken_torch_is_a_failure(monkeypatch):
    monkeypatch.setitem(
        sys.modules, "torch", types.SimpleNamespace(__version__="2.5.1+cu121")
    )
    assert doctor.check_torch().state == "fail"
    monkeypatch.setitem(sys.modules, "torch", types.SimpleNamespace(__version__="2.10.0"))
    assert doctor.check_torch().state == "ok"  # 2.10 is later than 2.6
    monkeypatch.setitem(sys.modules, "torch", None)  # makes the import fail
    assert doctor.check_torch().state == "fail"


def test_data_folder(monkeypatch, tmp_path):
    monkeypatch.setenv("GDM_DATA_DIR", str(tmp_path))
    assert doctor.check_data().state == "note"
    (tmp_path / "mnist").mkdir()
    assert "mnist" in doctor.check_data().found
    monkeypatch.setenv("GDM_DATA_DIR", str(tmp_path / "absent"))
    assert doctor.check_data().state == "fail"
    assert doctor.check_disk().state in ("ok", "note")  # falls back to a parent that exists


@pytest.fixture
def server():
    """A port of this machine that accepts connections."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield listening.getsockname()[1]


def test_network(monkeypatch, server):
    for name in ("GDM_OFFLINE", "https_proxy", "HTTPS_PROXY"):
        monkeypatch.delenv(name, raising=False)
    assert machine.check_network(("127.0.0.1",), server).state == "ok"
    silent = machine.check_network(("127.0.0.1",), 1)  # nothing listens there
    assert silent.state == "note"
    assert "127.0.0.1" in silent.found


def test_network_does_not_wait_for_a_hanging_name_lookup(monkeypatch):
    for name in ("GDM_OFFLINE", "https_proxy", "HTTPS_PROXY"):
        monkeypatch.delenv(name, raising=False)
    hang = threading.Event()

    def connect(*args, **kwargs):
        hang.wait()
        raise OSError("no such host")

    monkeypatch.setattr(socket, "create_connection", connect)
    monkeypatch.setattr(machine, "PATIENCE", 0.1)
    assert machine.check_network(("a.invalid", "b.invalid")).state == "note"
    hang.set()


def test_offline_is_respected(monkeypatch):
    def never(*args, **kwargs):
        raise AssertionError("the network was used")

    monkeypatch.setenv("GDM_OFFLINE", "1")
    monkeypatch.setattr(socket, "create_connection", never)
    assert machine.check_network().state == "ok"


@pytest.mark.parametrize(
    ("body", "state"), [("exit 0", "ok"), ("echo no >&2; exit 1", "note")]
)
def test_sandbox(monkeypatch, tmp_path, body, state):
    fake = tmp_path / "bwrap"
    fake.write_text(f"#!/bin/sh\n{body}\n")
    fake.chmod(0o755)
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    assert machine.check_sandbox().state == state


def test_sandbox_elsewhere(monkeypatch):
    monkeypatch.setattr(sys, "platform", "win32")
    assert "WSL" in machine.check_sandbox().remedy
