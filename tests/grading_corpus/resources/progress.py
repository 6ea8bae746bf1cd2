#: why = "honest: progress bars"
#: expect = "FULL"
#: base = "solved"
# %%
from tqdm.auto import tqdm

for _ in tqdm(range(1000)):
    pass
