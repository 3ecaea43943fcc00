"""Thin Firetasks, one verb each: load documents, call a pure function, store documents.

A module's path is written into the database with every firework, so it never moves.
"""
