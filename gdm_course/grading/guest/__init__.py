"""What is put into the box, and runs there beside a stranger's code.

May come in: the standard library, torch, numpy and safetensors, and of the grader only
this room. Nothing that decides a mark: whatever lies here can be read by a student's code.
The judge uses the same wire and packing on its side of the box.
"""
