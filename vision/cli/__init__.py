"""The command line: main and one thin file a command; heavy imports happen inside the commands."""
