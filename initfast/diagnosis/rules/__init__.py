"""The checks of a report, a file for each kind of fault."""
