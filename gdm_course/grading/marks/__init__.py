"""A class: what was handed in, who grades, what is stored, and the reports made of it.

May come in: verdicts of the judge. Strangers' texts and file names pass `inert` before
anybody sees them, and strangers' folders are walked by `walk` alone.
"""
