#: why = "signals to everybody"
#: expect = "HOST"
#: base = "solved"
# %%
import os
import signal

os.kill(-1, signal.SIGKILL)
