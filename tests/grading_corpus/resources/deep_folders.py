#: why = "leaves 1,500 folders behind, one in another, closed to their owner"
#: expect = "FULL"
#: base = "solved"
# %%
import os

home = os.getcwd()
for i in range(1500):
    os.mkdir("d")
    open("x" * 200 + str(i), "w").close()
    os.chdir("d")
os.chdir(home)
os.chmod("d", 0)
