"""What rots unseen: commands in the README, make targets, versions, the conda file."""

import os
import re
import subprocess
import tomllib

import pytest
from typer.main import get_command

from gdm_course.cli import app

TARGETS = ("help lab test sync check smoke full site slides bench clean").split()  # noqa: SIM905


@pytest.fixture(scope="module")
def project(root):
    return tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def make(root, *arguments: str) -> str:
    """Run make as a person does, not as a step of the make that may run these tests."""
    env = {k: v for k, v in os.environ.items() if not k.startswith(("MAKE", "MFLAGS"))}
    done = subprocess.run(
        ["make", *arguments], cwd=root, env=env, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def help_text(root):
    return make(root, "help")


def python_range(project) -> list[str]:
    """The minor versions that `requires-python` lets in, among 3.8 to 3.20."""
    low, high = re.fullmatch(r">=3\.(\d+),<3\.(\d+)", project["requires-python"]).groups()
    return [f"3.{minor}" for minor in range(int(low), int(high))]


def requirements(project, extra: str) -> set[str]:
    """All requirement lines of an extra, its `gdm_course[...]` references resolved."""
    lines = set()
    for line in project["optional-dependencies"][extra]:
        if inner := re.fullmatch(r"gdm_course\[(.+)\]", line):
            lines = lines.union(
                *(requirements(project, name) for name in inner[1].split(","))
            )
        else:
            lines.add(line)
    return lines


@pytest.mark.parametrize("target", TARGETS)
def test_make_target_is_listed_and_can_be_planned(root, help_text, target):
    assert re.search(rf"^  {target}\s+\S", help_text, re.M), f"make help omits {target}"
    assert make(root, "-n", target)


def test_help_is_what_make_does_by_default(root, help_text):
    assert make(root) == help_text


def test_port_and_args_reach_the_command(root):
    lines = make(root, "-n", "lab", "PORT=8123", "ARGS=--no-browser")
    assert re.search(r"gdm lab --port 8123 .*--no-browser", lines)


def test_torch_is_installed_first_and_pinned(root):
    """Otherwise pip resolves another torch first, then swaps gigabytes."""
    lines = (root / "constraints.txt").read_text().splitlines()
    assert [line for line in lines if not line.startswith("#")] == ["torch==2.13.0"]
    steps = make(root, "-n", "-B", ".venv/.installed")
    installs = [line for line in steps.splitlines() if " -m pip " in line]
    assert installs[0].rstrip().endswith("torch")
    assert installs[1].rstrip().endswith("-e '.[dev]'")
    assert all("-c constraints.txt" in line for line in installs)


def test_workflow_covers_the_python_range(root, project):
    text = (root / ".github/workflows/ci.yml").read_text()
    matrix = re.search(r"python: \[(.*)\]", text)[1]
    assert re.findall(r'"([\d.]+)"', matrix) == python_range(project)
    assert "bash .ci/run" in text
    assert "make full" in text


def test_full_takes_a_shift_and_an_instruction_set(root):
    plan = make(root, "-n", "full", "SHIFT=1", "ATEN_CPU_CAPABILITY=avx2", "ARGS=flows")
    assert "publishing.full flows --shift=1 --isa=avx2" in " ".join(plan.split())
    assert "--" not in make(root, "-n", "full").rpartition("publishing.full")[2]


def test_every_week_all_notebooks_run_under_three_shifts_and_two_instruction_sets(root):
    text = (root / ".github/workflows/ci.yml").read_text()
    job = text.partition("  elsewhere:")[2]
    assert "github.event_name == 'schedule'" in job
    assert len(re.search(r"shift: \[(.*)\]", job)[1].split(",")) == 3
    assert re.search(r"isa: \[(.*)\]", job)[1].split(", ") == ["default", "avx2"]
    wanted = "SHIFT=${{ matrix.shift }} ATEN_CPU_CAPABILITY=${{ matrix.isa }}"
    assert f"make full {wanted}" in job


def test_setup_asks_for_the_python_range(root, project):
    low, *_, high = python_range(project)
    asked = re.search(
        r"\((\d), (\d+)\) <= v <= \((\d), (\d+)\)", (root / "Makefile").read_text()
    )
    assert f"{asked[1]}.{asked[2]}" == low
    assert f"{asked[3]}.{asked[4]}" == high


def test_conda_file_equals_pyproject(root, project):
    lines = (root / "environment.yml").read_text().splitlines()
    assert f"  - python{project['requires-python']}" in lines
    listed = [line.strip()[2:] for line in lines if line.startswith("      - ")]
    wanted = sorted(
        {*project["dependencies"], *requirements(project, "dev")}, key=str.lower
    )
    assert listed == ["-c constraints.txt", "-e .", *wanted]


def test_every_extra_is_there(project):
    extras = set(project["optional-dependencies"])
    assert extras >= {"lab", "test", "grading", "scale", "peers", "dev"}


def test_core_needs_three_packages(project):
    names = {re.match(r"\w+", line)[0] for line in project["dependencies"]}
    assert names == {"torch", "numpy", "safetensors"}


def test_ci_script_is_valid_bash_and_tests(root):
    assert subprocess.run(["bash", "-n", ".ci/run"], cwd=root).returncode == 0
    assert (root / ".ci/run").read_text().rstrip().endswith("make test")


def test_licences(root):
    assert "MIT License" in (root / "LICENSE").read_text()
    assert "CC BY 4.0" in (root / "LICENSE-text").read_text()


def commands_in(text: str) -> list[list[str]]:
    """What the README tells people to type after `make` or `gdm`, in blocks and in text."""
    shown = re.findall(r"`((?:make|gdm|\.venv/bin/gdm) [^`]+)`", text)
    shown += [
        line.split("#")[0] for line in text.splitlines() if re.match(r"(make|gdm) ", line)
    ]
    return [line.strip().removeprefix(".venv/bin/").split() for line in shown]


def test_readme_names_only_commands_that_exist(root):
    group = get_command(app)
    known = set(group.list_commands(None))
    told = commands_in((root / "README.md").read_text(encoding="utf-8"))
    assert len(told) > 8
    for command, name, *_ in told:
        assert name in (TARGETS if command == "make" else known), f"{command} {name}"


def test_readme_opens_with_the_gallery(root):
    text = (root / "README.md").read_text(encoding="utf-8")
    assert text.index("docs/gallery.png") < 200
    assert (root / "docs/gallery.png").stat().st_size < 200_000


def test_readme_links_lead_somewhere(root):
    text = (root / "README.md").read_text(encoding="utf-8")
    links = [link for link in re.findall(r"\]\(([^)#]+)", text) if "://" not in link]
    assert links
    for link in links:
        assert (root / link).exists(), link
