"""`make full`: every notebook, under shifted seeds and other instruction sets."""

import json
import os
import re
import shutil
import subprocess
import sys

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

from gdm_course.publishing import elsewhere
from gdm_course.publishing.elsewhere import Setting

SAY = "import os; print(os.environ.get('GDM_SEED_SHIFT'), os.environ['GDM_CHECK'])"
STOP = "assert os.environ.get('GDM_SEED_SHIFT') != '1', 'holds\\nfor seed 0 alone'"
CHANCE = "from gdm_course.training import generator; print(generator(3).initial_seed())"
ISA = "import torch; print(torch.backends.cpu.get_cpu_capability())"


@pytest.fixture(scope="module")
def place(root, tmp_path_factory):
    """A copy of the package with one lecture and one solution of a few cells each."""
    place = tmp_path_factory.mktemp("course")
    leave = shutil.ignore_patterns("__pycache__", "checkpoints", "data")
    shutil.copytree(root / "gdm_course", place / "gdm_course", ignore=leave)
    for tree, sources in {"lectures": [SAY, STOP], "solutions": [CHANCE, ISA]}.items():
        cells = [new_code_cell(source, id=f"c{i}") for i, source in enumerate(sources)]
        cells.insert(0, new_markdown_cell("# Title", id="title"))
        path = place / tree / "foundations" / "densities.ipynb"
        path.parent.mkdir(parents=True)
        nbformat.write(new_notebook(cells=cells), path)
    return place


def full(place, *arguments, **env):
    """Run `python -m gdm_course.publishing.full` there."""
    shutil.rmtree(place / "build", ignore_errors=True)
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("GDM_", "ATEN_"))}
    return subprocess.run(
        [sys.executable, "-m", "gdm_course.publishing.full", *arguments],
        cwd=place,
        env=kept | {"PYTHONPATH": str(place)} | env,
        capture_output=True,
        text=True,
    )


def report(place, name):
    return json.loads((place / "build" / f"full{name}.json").read_text())


def said(place, name, tree):
    path = place / "build" / f"executed{name}" / tree / "foundations" / "densities.ipynb"
    outputs = [
        out.text
        for cell in nbformat.read(path, as_version=4).cells
        for out in cell.get("outputs", [])
        if out.get("name") == "stdout"
    ]
    return "".join(outputs).split("\n")[:-1]


def test_a_plain_run_keeps_its_names(place):
    done = full(place)
    assert done.returncode == 0, done.stdout + done.stderr
    assert sorted(p.name for p in (place / "build").iterdir()) == ["executed", "full.json"]
    rows = report(place, "")["notebooks"]
    assert [row["error"] for row in rows] == [None, None]
    assert said(place, "", "solutions")[0] == "3"


def test_every_setting_reaches_the_kernels_and_the_end_says_who_stopped_where(place):
    done = full(place, "--shift", "0,1", "--isa", "default", "--jobs", "2")
    assert done.returncode == 1
    assert said(place, "-1-default", "solutions") == ["1003", "DEFAULT"]
    assert said(place, "-1-default", "lectures") == ["1 1"]
    assert said(place, "-0-default", "solutions") == ["3", "DEFAULT"]
    (stopped, whole) = report(place, "-1-default")["notebooks"]
    assert (stopped["stopped"], whole["stopped"]) == (2, None)
    assert report(place, "-1-default")["setting"] == {
        "shift": 1,
        "isa": "default",
        "bare": False,
        "used": "DEFAULT",
    }
    assert [row["error"] for row in report(place, "-0-default")["notebooks"]] == [None] * 2
    *_, head, row = done.stdout.strip().split("\n")
    assert head.split() == ["stopped", "cell", "under", "because"]
    assert re.fullmatch(
        r"lectures/foundations/densities.ipynb +2 +shift 1, default +"
        r"AssertionError: holds for seed 0 alone",
        row,
    )


def test_the_environment_sets_what_no_option_says(place):
    done = full(place, "solutions", GDM_SEED_SHIFT="2", ATEN_CPU_CAPABILITY="default")
    assert done.returncode == 0, done.stdout + done.stderr
    assert said(place, "-2-default", "solutions") == ["2003", "DEFAULT"]
    assert not (place / "build" / "full.json").exists()
    assert "1 notebook ran through under shift 2, default" in done.stdout


def test_bare_is_without_data_and_without_a_network(monkeypatch, tmp_path, root):
    """Whatever is set around it: a kernel under it finds none, and asks nobody."""
    monkeypatch.setenv("GDM_DATA_DIR", str(tmp_path))
    (tmp_path / "here").touch()
    code = "from gdm_course.data import download; print(download.offline())"
    code += "; download.get('mnist')"
    setting = Setting(bare=True)
    assert setting.suffix == "-0-native-bare"
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=setting.environment | {"PYTHONPATH": str(root)},
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stdout.strip()) == (1, "True")
    assert "GDM_OFFLINE" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--shift", "1,x"], "shift"),
        (["--isa", "sse9"], "default, avx2 or avx512"),
        (["--jobs", "0"], "jobs"),
        (["nosuchunit"], "no lecture or solution has nosuchunit in its path"),
    ],
)
def test_a_wrong_option_is_one_sentence(place, arguments, sentence):
    done = full(place, *arguments)
    assert done.returncode != 0
    assert sentence in done.stdout + done.stderr
    assert "Traceback" not in done.stderr


def test_an_instruction_set_that_torch_did_not_take_is_said():
    said = elsewhere.headline(Setting(1, "avx2"), "AVX2")
    assert said == "shift 1, avx2: torch uses AVX2"
    assert elsewhere.headline(Setting(), "AVX2") == "shift 0, native: torch uses AVX2"
    assert "not what was asked for" in elsewhere.headline(Setting(0, "avx512"), "AVX2")
