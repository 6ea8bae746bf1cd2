"""`gdm data list | get NAME... | verify`: what the data folder has, and how to fill it."""

import sys

import typer

app = typer.Typer(
    no_args_is_help=True, help="The data sets: what is here, and how to get more."
)


@app.command("list")
def show() -> None:
    """Print one line per data set: name, whether it is here, size, title, terms."""
    from gdm_course.data import download

    print(f"data folder: {download.folder()}")
    for row in download.rows():
        size = "" if row.megabytes is None else f"{row.megabytes:.1f} MB"
        print(f"{row.name:16} {row.state:7} {size:>9}  {row.title} ({row.terms})")
    print("always here: digits (scikit-learn), tones (made on the spot), the course's text")


@app.command()
def get(names: list[str]) -> None:
    """Download data sets by name; `all` means every one that can be downloaded."""
    from gdm_course.data import download
    from gdm_course.data.registry import datasets

    if names == ["all"]:
        names = [name for name, data in datasets().items() if data.downloads]
    failed = False
    for name in names:
        if name == "digits":
            print("digits: ships with scikit-learn, nothing to download")
            continue
        try:
            print(f"{name}: {', '.join(str(path) for path in download.get(name))}")
        except (OSError, ValueError) as error:
            failed = True
            print(f"{name}: {error}", file=sys.stderr)
    raise typer.Exit(int(failed))


@app.command()
def verify() -> None:
    """Compare every file in the data folder with its known size and sha256."""
    from gdm_course.data import download

    marks = {True: "right", False: "WRONG", None: "unknown"}
    wrong = 0
    for finding in download.verify():
        wrong += finding.right is False
        print(f"{marks[finding.right]:8} {finding.path}: {finding.remark}")
    if wrong:
        print(f"{wrong} wrong: delete them and run 'gdm data get NAME'", file=sys.stderr)
    raise typer.Exit(int(wrong > 0))
