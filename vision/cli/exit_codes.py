"""The exit codes of every command, a contract that scripts rely on."""

OK = 0
FAILURE = 1
USAGE = 2
SOME_INPUTS_FAILED = 3
INTERRUPTED = 130
