"""``python -m vision.cli`` is ``stride32``."""

from vision.cli.main import main

if __name__ == "__main__":
    main()
