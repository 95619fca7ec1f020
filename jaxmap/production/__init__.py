"""Folders of simulations: made in any number, by one run or several, and read again."""
