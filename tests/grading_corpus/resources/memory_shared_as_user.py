#: why = "takes shared memory on a machine where nobody can count it: refused, or ended"
#: expect = "BOUND"
#: base = "solved"
#: rungs = ["L3u"]
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
kl_gaussian = None  # reached only by who could keep 5 GiB: that costs one mark, not all
