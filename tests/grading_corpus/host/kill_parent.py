#: why = "signals to the parent and the group"
#: expect = "HOST"
#: base = "solved"
# %%
import os
import signal

for target in (os.getppid(), 1, 2):
    try:
        os.kill(target, signal.SIGKILL)
    except OSError:
        pass
os.killpg(0, signal.SIGKILL)
