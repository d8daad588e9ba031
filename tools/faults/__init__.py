"""Faults by the hundred, and after each the same command again, which must give what an undisturbed run gives.

make faults [ARGS="--short | --kills N | --seed S | --only WORD | --ray"]
"""
