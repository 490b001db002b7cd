"""`python -m pipelit` is `pipelit`."""

from pipelit.cli import main

if __name__ == "__main__":
    main()
