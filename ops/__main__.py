"""`python -m offbook.ops` is the command `offbook`."""

from .cli import main

if __name__ == "__main__":
    main()
