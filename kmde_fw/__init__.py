"""Key-motif-directed data expansion: which few structures to label next, as FireWorks campaigns."""

__version__ = "0.1.0"
