#: why = "NUL, surrogates, bidirectional marks in comments"
#: expect = "FULL"
#: base = "solved"
#: edit = "odd_characters"

