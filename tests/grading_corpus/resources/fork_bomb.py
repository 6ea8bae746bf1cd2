#: why = "forks without end"
#: expect = "ZERO"
#: base = "solved"
#: budget = { load = 3, ask = 3 }
# %%
import os

while True:
    try:
        os.fork()
    except OSError:
        pass
