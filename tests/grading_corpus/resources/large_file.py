#: why = "writes one file of a gigabyte"
#: expect = "FULL"
#: base = "solved"
# %%
with open("/tmp/large", "wb") as file:
    for _ in range(1024):
        file.write(bytes(1 << 20))
