#: why = "forks without end"
#: expect = "FULL"
#: base = "solved"
#: budget = { load = 8, ask = 8 }
# %%
import os

while True:
    try:
        os.fork()
    except OSError:
        pass
