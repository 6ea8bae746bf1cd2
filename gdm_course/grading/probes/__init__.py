"""`gdm doctor --sandbox`: attempts to break out of this machine's boxes.

May come in: boxes, and the judge's stage. What is tried here runs inside a box, but for
the doctor's own looking on; no submission is ever near.
"""
