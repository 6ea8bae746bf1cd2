"""Deep generative models: the six families, from scratch in PyTorch."""

import sys

if sys.argv[:1] == [
    "-m"
]:  # python -m gdm_course...: Python is still looking for the module
    from gdm_course.startup import leave_current_folder

    leave_current_folder()

from gdm_course.memory import keep_freed_memory

keep_freed_memory()
__version__ = "0.1.0"
