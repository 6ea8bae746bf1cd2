#: why = "cells that fail, and one that is no Python"
#: expect = "FULL"
#: base = "solved"
# %%
1 / 0

# %%
this is not python

# %%
%no_such_magic

# %% after
raise KeyboardInterrupt
