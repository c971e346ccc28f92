"""`python -m fastsnn_deploy`, which torchrun can start: the command line."""

from fastsnn_deploy.cli.main import main

if __name__ == "__main__":
    main()
