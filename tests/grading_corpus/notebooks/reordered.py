#: why = "answers in reverse order"
#: expect = "FULL"
#: base = "solved"
#: edit = "reordered"

