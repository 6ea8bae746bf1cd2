#: why = "outputs of every kind, with markup in them"
#: expect = "FULL"
#: base = "solved"
#: edit = "outputs"

