#: why = "Windows line ends"
#: expect = "FULL"
#: base = "solved"
#: edit = "crlf"

