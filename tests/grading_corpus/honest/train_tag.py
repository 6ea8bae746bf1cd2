#: why = "answers and an experiment in cells that were copied from a training cell, tag and all"
#: expect = "FULL"
#: base = "solved"
#: edit = "tagged"
# %% after
while True:
    steps = 10**9
