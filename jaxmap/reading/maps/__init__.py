"""Reading users' own convergence maps, on which priors are trained.

`source.open_maps` is the way in. It finds the files, recognises their layout (`layouts`), looks
into each (`fitsimages`, `numpyarrays`, `hdf5datasets`, `ktngbinary`, `simulated`: one kind of file
each, and one `mapfile.MapFile` per file) and returns a `source.MapSource`, which reads one map at a
time. `split.split_by_realisation` sets maps aside for validation.
"""
