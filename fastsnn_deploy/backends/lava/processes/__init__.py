"""Lava processes and their fixed-point CPU models, nothing else.

To find the models of a process, Lava executes every file of the folder that holds it. A file here must do nothing
when it is executed but define classes.
"""
