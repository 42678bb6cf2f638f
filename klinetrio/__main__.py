"""``python -m klinetrio``."""

from klinetrio.cli import main


if __name__ == "__main__":
    main()
