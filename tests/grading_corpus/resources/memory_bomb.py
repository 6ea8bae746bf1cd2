#: why = "takes memory while the cells run"
#: expect = "ZERO"
#: base = "solved"
#: status = "crash"
# %%
hoard = []
while True:
    try:
        hoard.append(bytearray(b"x" * (64 << 20)))
    except MemoryError:
        hoard.append(bytearray(b"x" * 4096))
