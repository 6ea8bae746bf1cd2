#: why = "the solution itself"
#: expect = "FULL"
#: base = "solved"

