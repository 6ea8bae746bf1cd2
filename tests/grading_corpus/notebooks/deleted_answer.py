#: why = "one answer cell deleted"
#: expect = "Q0: kl_gaussian"
#: base = "solved"
#: edit = "deleted"
#: status = "missing"

