#: why = "leaves a daemon behind"
#: expect = "FULL"
#: base = "solved"
# %%
import os
import time

if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        for fd in range(64):
            try:
                os.close(fd)
            except OSError:
                pass
        time.sleep(3600)
    os._exit(0)
