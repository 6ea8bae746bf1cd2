"""Downloads from a local server that misbehaves in every way that was thought of.

After each test the place holds the right file or nothing, and the error is one sentence.
"""

import os
import signal
import subprocess
import sys
from itertools import pairwise

import misbehaving
import pytest
import requests
import typer.testing
from misbehaving import BODY, HALF, LONG, SHA
from waiting import until

from gdm_course.data import download, stream, transfer
from gdm_course.data.cli import app
from gdm_course.data.registry import Dataset, File, dataset, datasets


@pytest.fixture
def server():
    with misbehaving.serving() as server:
        yield server


@pytest.fixture(autouse=True)
def quiet(monkeypatch):
    monkeypatch.setenv("CI", "1")
    monkeypatch.delenv("GDM_OFFLINE", raising=False)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setattr(transfer, "PAUSE", 0)


def make(server, *hows):
    """A file whose mirrors behave as told."""
    urls = tuple(f"{server.url}/{how}/body.bin" for how in hows)
    return File("set/body.bin", len(BODY), SHA, urls)


def settled(root):
    """The place holds the right bytes and nothing else is left of the transfer."""
    left = [p for p in root.rglob("*") if p.is_file() and p.suffix != ".lock"]
    return left == [root / "set/body.bin"] and left[0].read_bytes() == BODY


def failure(file, root):
    """The one sentence of a download that must fail, with nothing put in place."""
    with pytest.raises(download.DownloadError) as caught:
        transfer.fetch(file, root)
    assert not (root / "set/body.bin").exists()
    assert isinstance(caught.value, download.Missing)  # so a lecture goes on without
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("how", ["plain", "slow", "long"])
def test_one_mirror_that_can_be_used(how, server, tmp_path):
    """Slow, or announcing more bytes than there are: the file still comes."""
    assert transfer.fetch(make(server, how), tmp_path).read_bytes() == BODY
    assert settled(tmp_path)


def test_a_dropped_line_is_resumed_with_range(server, tmp_path):
    """Catches a transfer that starts again from zero or appends at the wrong place."""
    transfer.fetch(make(server, "drop"), tmp_path)
    assert server.asked == [("drop", 0), ("drop", HALF)]


@pytest.mark.parametrize(
    ("how", "starts"),
    [("norange", [0, HALF]), ("range416", [0, HALF, 0]), ("wrongrange", [0, HALF, 0])],
)
def test_a_server_that_cannot_resume(how, starts, server, tmp_path):
    """Catches appending a whole file to its half, and trust in a position not asked for."""
    transfer.fetch(make(server, how), tmp_path)
    assert [start for _, start in server.asked] == starts
    assert settled(tmp_path)


@pytest.mark.parametrize("how", ["corrupt", "missing", "endless"])
def test_the_next_mirror_is_tried(how, server, tmp_path):
    """Catches trust in the first mirror's bytes, status or length."""
    transfer.fetch(make(server, how, "plain"), tmp_path)
    assert settled(tmp_path)
    assert [h for h, _ in server.asked] == [how, "plain"]


def test_a_part_of_a_wrong_file_does_not_spoil_the_next_mirror(server, tmp_path):
    """Half of it came from elsewhere: the sum is wrong, so the mirror starts from zero."""
    file = make(server, "plain")
    staging = tmp_path / ".downloads" / SHA[:16]
    staging.mkdir(parents=True)
    (staging / "part").write_bytes(bytes(HALF))
    transfer.fetch(file, tmp_path)
    assert server.asked == [("plain", HALF), ("plain", 0)]
    assert settled(tmp_path)


@pytest.mark.parametrize(
    ("how", "words"),
    [
        ("corrupt", "wrong checksum"),
        ("missing", "answered 404"),
        ("endless", "more than the 300,000 bytes"),
        ("short", "the line dropped after"),
    ],
)
def test_no_usable_mirror_is_one_clear_sentence(how, words, server, tmp_path, monkeypatch):
    monkeypatch.setattr(transfer, "TRIES", 3)
    assert words in failure(make(server, how), tmp_path)


def test_all_mirrors_down(server, tmp_path):
    urls = ("http://127.0.0.1:9/body.bin", "http://127.0.0.1:9/other.bin")
    message = failure(File("set/body.bin", len(BODY), SHA, urls), tmp_path)
    assert message.count("127.0.0.1:9: it refused the connection") == 2
    assert "it continues where it stopped" in message


def test_a_silent_server_is_given_up(server, tmp_path, monkeypatch):
    """Catches a missing time-out: after it more is asked for, from where it stopped."""
    asked = requests.get

    def get(url, timeout, **more):
        assert timeout == stream.TIMEOUT
        impatient = (stream.TIMEOUT[0], 0.2 if "/waits/" in url else LONG)
        return asked(url, timeout=impatient, **more)

    monkeypatch.setattr(requests, "get", get)
    transfer.fetch(make(server, "waits", "plain"), tmp_path)
    assert server.asked[1][1] > 0
    assert settled(tmp_path)


def test_a_full_disk_is_refused_before_the_first_byte(server, tmp_path, monkeypatch):
    monkeypatch.setattr(transfer, "SPARE", 10**18)
    assert "make room or set GDM_DATA_DIR" in failure(make(server, "plain"), tmp_path)
    assert server.asked == []


def test_a_folder_that_cannot_be_written(server, tmp_path):
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(download.DownloadError, match=r"cannot write to .*set GDM_DATA_DIR"):
        transfer.fetch(make(server, "plain"), tmp_path / "file")


FETCH = """
import sys
from pathlib import Path
from gdm_course.data import transfer
from gdm_course.data.registry import File
url, size, sha, root = sys.argv[1:]
transfer.fetch(File("set/body.bin", int(size), sha, (url,)), Path(root))
"""


def start(server, root, how):
    """Fetch in another process."""
    url = f"{server.url}/{how}/body.bin"
    command = [sys.executable, "-c", FETCH, url, str(len(BODY)), SHA, str(root)]
    return subprocess.Popen(command, stderr=subprocess.PIPE, text=True)


def test_a_kill_leaves_nothing_in_place_and_the_next_run_resumes(server, tmp_path):
    """Catches writing in place, and a lock that outlives its holder."""
    part = tmp_path / ".downloads" / SHA[:16] / "part"
    process = start(server, tmp_path, "waits")
    assert until(lambda: stream.size_of(part) > 0)
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    kept = stream.size_of(part)
    assert 0 < kept < len(BODY)
    assert not (tmp_path / "set/body.bin").exists()
    transfer.fetch(make(server, "plain"), tmp_path)
    assert server.asked == [("waits", 0), ("plain", kept)]
    assert settled(tmp_path)


def test_two_processes_at_once_download_once(server, tmp_path):
    """Catches a missing lock: without it the server is asked twice."""
    first = start(server, tmp_path, "waits")
    assert until(lambda: server.asked)
    second = start(server, tmp_path, "waits")
    said = second.stderr.readline()  # comes, or the process ends
    server.go_on.set()
    for process in (first, second):
        errors = process.communicate()[1]
        assert process.returncode == 0, errors
    assert "another process is downloading" in said
    assert server.asked == [("waits", 0)]
    assert settled(tmp_path)


@pytest.fixture
def one_set(server, tmp_path, monkeypatch):
    """A registry with one downloadable and one local data set, and an empty data folder."""
    table = {
        "good": Dataset("good", "Good", "free", "x()", ((make(server, "plain"),),)),
        "own": Dataset("own", "Own", "free", "y()", ((File("own.bin", 3, SHA),),)),
    }
    monkeypatch.setattr(download, "datasets", lambda: table)
    monkeypatch.setattr(download, "dataset", table.__getitem__)
    monkeypatch.setenv("GDM_DATA_DIR", str(tmp_path))
    return tmp_path / "set/body.bin"


def test_need_downloads_once_and_offline_says_what_to_do(one_set, server, monkeypatch):
    monkeypatch.setenv("GDM_OFFLINE", "1")
    with pytest.raises(download.Missing) as caught:
        download.need("good")
    assert str(caught.value) == (
        "GDM_DATA_DIR has no Good and downloads are off (GDM_OFFLINE=1): run 'gdm data get "
        "good' once with a network, or use x()"
    )
    assert server.asked == []
    monkeypatch.delenv("GDM_OFFLINE")
    assert download.need("good") == download.need("good") == [one_set]
    assert len(server.asked) == 1
    with pytest.raises(
        download.Missing, match=r"no Own .* put own.bin into .* or use y\(\)"
    ):
        download.need("own")


def test_list_get_and_verify(one_set, server):
    """Catches a state that is not looked up, and damage that verify or get does not see."""
    assert [row.state for row in download.rows()] == ["absent", "absent"]
    download.get("good")
    assert [row.state for row in download.rows()] == ["here", "absent"]
    assert [finding.right for finding in download.verify()] == [True]
    one_set.write_bytes(BODY[:-1] + b"?")
    assert [finding.right for finding in download.verify()] == [False]
    download.get("good")
    assert one_set.read_bytes() == BODY
    one_set.write_bytes(BODY[:-1])
    assert [row.state for row in download.rows()] == ["part", "absent"]
    assert [finding.remark for finding in download.verify()] == [
        "299,999 bytes, expected 300,000"
    ]
    assert download.need("good") == [one_set]
    assert one_set.read_bytes() == BODY


def test_command_line(one_set, server):
    """Catches exit codes that lie."""
    run = typer.testing.CliRunner().invoke
    assert run(app, ["get", "good"]).exit_code == 0
    assert "good here 0.3 MB Good (free)" in " ".join(run(app, ["list"]).output.split())
    assert run(app, ["verify"]).exit_code == 0
    one_set.write_bytes(bytes(len(BODY)))
    assert run(app, ["verify"]).exit_code == 1
    assert run(app, ["get", "own"]).exit_code == 1


def test_the_real_registry():
    """Catches a checksum of the wrong length, a size that is missing."""
    for data in datasets().values():
        for file in (file for form in data.forms for file in form):
            assert (file.size is None) == (file.sha256 is None)
            assert file.sha256 is None or len(bytes.fromhex(file.sha256)) == 32
            assert not file.urls or (file.sha256 and len(file.urls) > 1)
    downloadable = {name for name, data in datasets().items() if data.downloads}
    assert downloadable == set(datasets()) - {"usps"}
    ends = [url.rpartition("/")[2] for url in dataset("shakespeare").downloads[0].urls]
    assert ends == ["input.txt", "input.txt", "tiny-shakespeare.txt"]
    names = [f.path for d in datasets().values() for form in d.forms for f in form]
    assert all(a != b for a, b in pairwise(sorted(names)))
    with pytest.raises(
        ValueError, match="no data set is called 'minst': choose from mnist, "
    ):
        dataset("minst")
