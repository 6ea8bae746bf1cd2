"""`python -m gdm_course` is `gdm`."""

from gdm_course.cli import app

app()
