"""`gdm`, and `python -m gdm_course`: leave the current folder, then start."""

from gdm_course.startup import leave_current_folder


def main() -> None:
    """Run the command line."""
    leave_current_folder()
    from gdm_course.cli import app

    app()


if __name__ == "__main__":
    main()
