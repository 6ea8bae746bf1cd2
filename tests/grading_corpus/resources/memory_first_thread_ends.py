#: why = "children whose first thread has ended: /proc shows no memory of theirs"
#: expect = "FULL"
#: base = "solved"
#: says = "2048 MiB of memory"
# %%
import ctypes
import os
import threading
import time

hoard = []


def take():
    for _ in range(8):
        hoard.append(bytearray(b"x" * (100 << 20)))
    time.sleep(100)


for _ in range(6):
    if os.fork() == 0:
        threading.Thread(target=take).start()
        ctypes.CDLL(None).syscall(60 if os.uname().machine == "x86_64" else 93, 0)
time.sleep(100)
