#: why = "reads one byte of every 2 MiB of huge mappings: nothing is resident but page tables"
#: expect = "FULL"
#: base = "solved"
#: says = "2048 MiB of memory"
# %%
import ctypes
import mmap

size, held = 1 << 40, []
libc = ctypes.CDLL(None)
libc.mmap.restype = ctypes.c_void_p
for _ in range(3):
    start = libc.mmap(None, ctypes.c_size_t(size), mmap.PROT_READ, 0x4022, -1, 0)
    held.append(start)
    for at in range(start, start + size, 1 << 21):
        ctypes.c_char.from_address(at).value
