"""The command line: a thin client of the admin API, and the few commands that work on files."""
