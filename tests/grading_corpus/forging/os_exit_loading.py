#: why = "ends the process while the cells run"
#: expect = "ZERO"
#: base = "solved"
#: status = "crash"
# %%
import os

os._exit(0)
