#: why = "cells that begin with a byte order mark and end their lines as Windows does"
#: expect = "FULL"
#: base = "solved"
#: edit = "windows"
