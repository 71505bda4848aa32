"""``python -m experiments`` is ``nystrom``, from a checkout."""

from nystrom_numerics.cli import main

if __name__ == "__main__":
    main()
