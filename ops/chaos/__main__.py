"""`python -m offbook.ops.chaos` runs the plays."""

from .command import main

if __name__ == "__main__":
    main()
