"""Trees for a course that grades: one for students without the answers, one with them.

May come in: the course's own scripts, and the judge's map of an assignment. No submission:
what leaves here goes to students.
"""
