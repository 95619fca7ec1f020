"""Reading shear catalogues: any table, any survey's columns and conventions.

`readers.read_shear` is the way in. It opens a source (`tablefiles`, `tableformats`), finds which
column plays which role (`roles`, with the presets of `surveys`), and calibrates (`calibration`).

`maps.source.open_maps` is the way in for maps of convergence.
"""
