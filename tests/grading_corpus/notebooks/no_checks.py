#: why = "check cells deleted"
#: expect = "FULL"
#: base = "solved"
#: edit = "no_checks"

