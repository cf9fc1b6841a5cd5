"""The command lines: arguments, output, exit codes. One module per command."""
