"""Published HDF5 layouts, written and read: LPSDA (also PDEArena's 1-D files), PDEArena smoke (the data of SSLForPDEs), The Well."""
