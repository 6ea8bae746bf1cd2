"""What is asked, and what a submission earned. No stranger's code runs here.

May come in: boxes, and the course's own checks. From a box come bytes in one strict format,
read by `wire.decode` and compared here with what only this room knows.
"""
