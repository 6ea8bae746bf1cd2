#: why = "honest: a plot, shown"
#: expect = "FULL"
#: base = "solved"
# %%
import matplotlib.pyplot as plt

fig, ax = plt.subplots()
ax.plot([1, 2, 3])
plt.show()
