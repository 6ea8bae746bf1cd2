"""How a box is started, held within its limits, watched from outside, and ended.

May come in: the guest's room, for its wire and its seal. Nothing here knows a question, a
student or a mark: bytes go in, bytes come out, and what is inside may be anything.
"""
