#: why = "a comment of five megabytes"
#: expect = "FULL"
#: base = "solved"
#: edit = "long_line"

