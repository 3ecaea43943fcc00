"""Molecular dynamics with a model, and the way back: runs, trajectories, what of them left the model's domain."""
