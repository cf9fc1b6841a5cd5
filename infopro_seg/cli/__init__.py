"""The command lines: arguments, what is printed, exit codes. One module per command."""
