#: why = "metadata that names a unit which does not exist"
#: expect = "FULL"
#: base = "solved"
#: edit = "wrong_claim"

