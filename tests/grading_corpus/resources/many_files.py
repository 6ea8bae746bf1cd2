#: why = "makes files without end"
#: expect = "FULL"
#: base = "solved"
#: rungs = ["L3", "L3u"]
# %%
import os

n = 0
try:
    while n < 400_000:
        os.close(os.open(f"/tmp/f{n}", os.O_CREAT | os.O_WRONLY))
        n += 1
except OSError:
    pass
assert n < 60_000
