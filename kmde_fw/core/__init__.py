"""The method: coverage gap, outlier atoms, key motifs, surrogate structures, decisions. Pure functions."""
