#: why = "every answer cell twice, the first with another's id"
#: expect = "FULL"
#: base = "solved"
#: edit = "doubled"

