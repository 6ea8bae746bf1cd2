"""Questions of the exercises: one file per unit, one question per exercise.

In a notebook: `from gdm_course.checks.autoregressive import nade as check`, then
`check.chain_rule(chain_rule)` under the cell that answers it.
"""
