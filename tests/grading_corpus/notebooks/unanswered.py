#: why = "nothing answered"
#: expect = "ZERO"
#: base = "empty"
#: status = "missing"

