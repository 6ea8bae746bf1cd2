#: why = "no metadata at all"
#: expect = "FULL"
#: base = "solved"
#: edit = "stripped"

