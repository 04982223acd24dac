"""`python -m hypersphere COMMAND`: what one does with a trained model."""

from hypersphere._extras import need


def main() -> None:
    """Runs the command, where what it needs is installed."""
    try:
        needed = ("rich", "ml_collections", "orbax.checkpoint", "PIL")
        need("evaluate", needed, who="`hypersphere`")
    except ModuleNotFoundError as error:
        raise SystemExit(str(error)) from None
    try:
        from hypersphere.commands import command_line

        command_line.main()
    except KeyboardInterrupt:  # before there is a command
        raise SystemExit(130) from None


if __name__ == "__main__":
    main()
