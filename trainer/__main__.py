"""The entry point of `clear-trainer` and of `python -m trainer`."""

from service.retrieval import interruption


def main() -> None:
    """Run the command line; signals end the process from the first line on."""
    interruption.listen()
    from trainer.cli.main import main as run

    run()


if __name__ == "__main__":
    main()
