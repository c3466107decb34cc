"""`python -m rigorous_recorder`, the same as the command `rigorous-recorder`."""

from .cli import main

if __name__ == "__main__":
    main()
