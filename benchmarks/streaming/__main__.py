"""`python -m benchmarks.streaming`."""

from benchmarks.streaming.main import main

if __name__ == "__main__":
    main()
