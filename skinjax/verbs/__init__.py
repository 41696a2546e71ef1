"""The verbs of the command line, a module each: SUMMARY, DESCRIPTION, add_flags and run."""
