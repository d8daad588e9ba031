"""Contracts and the maths that methods share. Imports nothing from the other folders; every other folder may import it."""
