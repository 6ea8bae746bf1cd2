"""The house rules of DESIGN that a machine can check: imports, sizes, lint, `gdm check`."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

from gdm_course.authoring import house
from gdm_course.authoring.check import check
from gdm_course.authoring.course import load
from gdm_course.source import PACKAGE, ROOT

COURSE = load(ROOT)
FAMILIES = [*COURSE.families]
MODULES = sorted(PACKAGE.rglob("*.py"))
FOR_MODELS = {"nets", "training", "protocols", "learning", "chance", "validate"}
FOR_MODELS |= {"examples", "divergences", "batching"}
# Which rooms of the package a room may enter, besides itself; rooms not named are free.
MAY_IMPORT = {
    "nets": set(),
    "optimisers": set(),
    "protocols": set(),
    "learning": set(),
    "batching": set(),
    "chance": set(),
    "environment": {"source"},
    "memory": set(),
    "contract": {"nets", "data", "evaluation"},
    "training": {"protocols", "learning", "batching", "chance", "environment"},
    "source": set(),
    "validate": set(),
    "divergences": {"validate"},  # a loss may be one of them: there is one copy of each
    "examples": {"protocols"},
    "schematics": {
        "chance",
        "learning",
        "figure_style",
    },  # it draws any model, a reader's too
    **dict.fromkeys(FAMILIES, FOR_MODELS),
    # What is done to models: it may enter every family, and no family enters it.
    "challenges": FOR_MODELS.union(FAMILIES, {"evaluation", "checkpoints", "data"}),
}
# Rooms that only these may enter: they belong to authors and graders, not to models.
ONLY_FOR = {
    "authoring": {"cli", "publishing", "grading"},
    "publishing": {"cli"},
    "grading": {"cli"},
    "cli": {"__main__"},
    "checks": {"grading", "authoring", "cli"},
    "challenges": {"checks"},
}
LIGHT = {"torch", "numpy", "safetensors"}  # all that a GPU machine needs
HEAVY = ["matplotlib", "jupyter_core", "IPython", "ipywidgets", "nbformat", "jupytext"]
HEAVY += ["sklearn", "scipy", "lightning", "typer", "pooch"]
# Files that import more, inside a function: what calls it does not run on a GPU machine.
LATE = {"diffusion/flow_matching.py": {"scipy"}}


def imports(path: Path) -> set[str]:
    """Everything a file imports, anywhere in it, as dotted names."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: write imports in full, from gdm_course"
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def rooms(path: Path) -> set[str]:
    """The rooms of the package that a file enters."""
    return {name.split(".")[1] for name in imports(path) if name.startswith("gdm_course.")}


def room(path: Path) -> str:
    """The room that a file of the package is in."""
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def declared(family: str) -> set[str]:
    """Earlier families that a unit of this one needs, by course.toml."""
    units = [unit for unit in COURSE.units.values() if unit.family == family]
    needed = {need.split("/")[0] for unit in units for need in unit.needs}
    return needed & {*FAMILIES[: FAMILIES.index(family)]}


@pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_imports_run_one_way(path):
    here, entered = room(path), rooms(path)
    if here in MAY_IMPORT:
        allowed = MAY_IMPORT[here] | (declared(here) if here in FAMILIES else set())
        assert entered - {here} <= allowed
    for guarded, guests in ONLY_FOR.items():
        assert guarded not in entered or here in guests | {guarded}


@pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_models_need_torch_and_nothing_else(path):
    if room(path) in {*MAY_IMPORT, "divergences", "evaluation"} - {"schematics"}:
        names = {name.split(".")[0] for name in imports(path)}
        late = LATE.get(path.relative_to(PACKAGE).as_posix(), set())
        assert names - {*sys.stdlib_module_names, "gdm_course"} <= LIGHT | late


def test_the_rules_above_would_notice(tmp_path):
    wrong = tmp_path / "wrong.py"
    wrong.write_text(
        "def f():\n    from gdm_course.plotting import scatter\n    import sklearn.svm"
    )
    assert rooms(wrong) == {"plotting"}
    assert "plotting" not in MAY_IMPORT[FAMILIES[-1]]
    assert {name.split(".")[0] for name in imports(wrong)} - {"gdm_course"} == {"sklearn"}


def loaded(code: str, names: list[str]) -> str:
    """Run code in a fresh interpreter and say which of the names it has loaded."""
    report = f"\nimport sys; print(*[name for name in {names} if name in sys.modules])"
    command = [sys.executable, "-c", code + report]
    done = subprocess.run(command, text=True, capture_output=True, cwd=ROOT, check=True)
    return done.stdout.splitlines()[-1]


def test_models_load_neither_matplotlib_nor_jupyter():
    present = [f for f in FAMILIES if (PACKAGE / f).is_dir()]
    names = [
        f"gdm_course.{p.relative_to(PACKAGE).with_suffix('').as_posix()}"
        for f in present
        for p in (PACKAGE / f).glob("*.py")
        if p.stem != "__init__"
    ]
    lines = [f"import {name.replace('/', '.')}" for name in ["gdm_course", *names]]
    assert len(lines) > 1
    assert loaded("\n".join(lines), [*HEAVY, "torch"]) == "torch"


def test_checking_the_course_loads_no_torch():
    code = (
        "from gdm_course.cli import app\ntry:\n    app(['check'])\nexcept SystemExit: pass"
    )
    assert loaded(
        code, ["torch", "jupytext", "matplotlib", "gdm_course.authoring.check"]
    ) == ("gdm_course.authoring.check")


def definitions(path: Path) -> list[tuple[str, int]]:
    """Top-level functions and classes with their lengths in lines, decorators included."""
    found = []
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            first = min([node.lineno, *(d.lineno for d in node.decorator_list)])
            found.append((node.name, node.end_lineno - first + 1))
    return found


@pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_definitions_and_files_are_short(path):
    assert [(name, lines) for name, lines in definitions(path) if lines > 40] == []
    longest = 400 if path.parent.parent.name == "checks" else 220  # one file, all questions
    assert len(path.read_text(encoding="utf-8").splitlines()) <= longest


def statements(node: ast.AST) -> int:
    """Lines of a function without its docstring."""
    text = node.body[0] if ast.get_docstring(node) else None
    return (
        node.end_lineno
        - node.lineno
        + 1
        - (text.end_lineno - text.lineno + 1 if text else 0)
    )


@pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_functions_have_at_most_25_lines(path):
    tree = ast.parse(path.read_text(encoding="utf-8"))
    functions = [n for n in ast.walk(tree) if isinstance(n, ast.FunctionDef)]
    assert [(f.name, statements(f)) for f in functions if statements(f) > 25] == []


@pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_only_a_newline_ends_a_line(path):
    """`str.splitlines` cuts at form feeds and U+2028 too: `gdm_course.source.lines`.

    With `keepends=True`, as nbformat stores a cell, nothing is lost.
    """
    calls = [
        n for n in ast.walk(ast.parse(path.read_text("utf-8"))) if isinstance(n, ast.Call)
    ]
    cut = [c for c in calls if getattr(c.func, "attr", "") == "splitlines"]
    assert all([k.arg for k in c.keywords] == ["keepends"] for c in cut)


@pytest.mark.parametrize("mode", [["check"], ["format", "--check"]], ids=["lint", "format"])
def test_ruff_is_content(mode):
    """Line length, docstrings of all that is public, order of imports, format."""
    command = [
        sys.executable,
        "-m",
        "ruff",
        *mode,
        "--quiet",
        "--output-format=concise",
        ".",
    ]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_gdm_check_is_green():
    assert [str(problem) for problem in check(ROOT)] == []


SCRIPTS = sorted(
    p for top in ("lectures", "solutions") for p in (ROOT / top).glob("*/src/*.py")
)


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda p: str(p.relative_to(ROOT)))
def test_lectures_seed_through_one_function(path):
    """Else GDM_SEED_SHIFT would leave some of a lecture's seeds where they are."""
    assert "manual_seed" not in path.read_text(encoding="utf-8")


def test_types_agree():
    program = Path(sys.executable).with_name("pyrefly")
    done = subprocess.run(
        [program, "check", "--output-format", "min-text"],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr


# The grader's rooms: each may enter those before it.
GRADER = ["guest", "box", "judge", "marks", "probes", "release"]
APART = {("probes", "marks"), ("release", "probes")}
INSIDE = sorted((PACKAGE / "grading").glob("*/*.py"))


@pytest.mark.parametrize("path", INSIDE, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_the_graders_rooms_are_entered_one_way(path):
    here = path.parent.name
    parts = [name.split(".") for name in imports(path)]
    entered = {p[2] for p in parts if p[:2] == ["gdm_course", "grading"]} - {here}
    assert entered <= {*GRADER[: GRADER.index(here)]}
    assert not {(here, other) for other in entered} & APART


def test_each_of_the_graders_rooms_says_what_may_come_in():
    doors = {path.parent.name: path for path in INSIDE if path.name == "__init__.py"}
    assert {*doors} == {*GRADER}
    for path in doors.values():
        assert "May come in:" in ast.get_docstring(ast.parse(path.read_text("utf-8")))


def test_a_room_stands_above_what_it_enters_and_the_picture_leaves_out_what_follows():
    plan = {"a": {"b", "c"}, "b": {"c"}, "c": set()}
    assert house.floors(plan) == {"c": 0, "b": 1, "a": 2}
    assert house.lines(plan) == {("a", "b"), ("b", "c")}
    with pytest.raises(ValueError, match="in a circle, somewhere in: a, b"):
        house.floors({"a": {"b"}, "b": {"a"}, "c": set()})


def test_the_picture_is_of_this_house():
    plan = house.plan()
    for path in MODULES:
        here = house.room(path.relative_to(PACKAGE).with_suffix("").parts)
        if here in plan:
            assert rooms(path) - {here.split("/")[0]} - house.DOORS <= {
                name.split("/")[0] for name in plan[here]
            }
    assert (ROOT / "docs" / "house.svg").read_text(encoding="utf-8") == house.svg()
