#: why = "everything is forgotten at the end, and the screen cleared"
#: expect = "FULL"
#: base = "solved"
# %% after
from IPython.display import HTML, Markdown, clear_output, display

clear_output(wait=True)
display(Markdown("**done**"), HTML("<b>done</b>"), torch.zeros(2))

# %% after
%reset -f

# %% after
import signal

signal.alarm(1)
while True:
    pass
