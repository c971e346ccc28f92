"""A network on its cores, with the spikes of a run, as files of the simulator SANA-FE. See `docs/sanafe.md`.

SANA-FE is under the GPL: nothing here imports it or is taken from it. The files are written for a program that the
reader runs.
"""
