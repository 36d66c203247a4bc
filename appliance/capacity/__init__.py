"""Capacity: reports of what is held and by whom, its history, and counts for bills."""
