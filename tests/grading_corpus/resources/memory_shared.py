#: why = "takes shared memory without a name, and gives its pages back: they stay"
#: expect = "FULL"
#: base = "solved"
#: says = "2048 MiB of memory"
#: rungs = ["L3", "L2"]
# %%
import mmap
import time

held = []
for _ in range(80):
    block = mmap.mmap(-1, 64 << 20)
    for page in range(0, len(block), 4096):
        block[page] = 1
    block.madvise(mmap.MADV_DONTNEED)
    held.append(block)
time.sleep(20)
