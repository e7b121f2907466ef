"""How files travel smaller than they are: packed by zstd, or as a patch from a file that is there already."""
