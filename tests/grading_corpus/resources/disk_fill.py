#: why = "fills every folder it can write"
#: expect = "FULL"
#: base = "solved"
#: rungs = ["L3", "L3u"]
# %%
import os

for place in ("/tmp", "/dev/shm", "/var/tmp", "/", os.getcwd()):
    try:
        for i in range(100):
            with open(f"{place}/fill{i}", "wb") as file:
                for _ in range(200):
                    file.write(bytes(1 << 20))
    except OSError:
        continue
