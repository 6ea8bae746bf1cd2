#: why = "exits in a cell: a notebook goes on"
#: expect = "FULL"
#: base = "solved"
# %%
import sys

sys.exit(1)
