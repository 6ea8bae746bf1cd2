#: why = "takes memory while the cells run"
#: expect = "FULL"
#: base = "solved"
# %%
hoard = []
while True:
    try:
        hoard.append(bytearray(b"x" * (64 << 20)))
    except MemoryError:
        hoard.append(bytearray(b"x" * 4096))
