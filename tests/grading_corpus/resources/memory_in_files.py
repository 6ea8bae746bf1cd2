#: why = "takes memory through anonymous and shared memory files"
#: expect = "FULL"
#: base = "solved"
# %%
import mmap
import os
import resource

got = 0
try:
    fd = os.memfd_create("x")
    os.truncate(fd, 1 << 30)
    got = 1
except (OSError, AttributeError):
    pass
