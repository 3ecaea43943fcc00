"""Rows and tables made from the documents of a campaign, and from nothing else."""
