"""``edgereverie chat``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from edgereverie.cli.choices import Backend, Guard, MaxTokens
from edgereverie.cli.console import complain, console

_HELP = """\
/image PATH   look at this picture; the conversation starts anew
/claims       mark the last answer and list its claims
/clear        forget the conversation, keep the picture
/exit         leave (so does Ctrl-D); Ctrl-C stops an answer"""


def chat(
    model: Annotated[str, typer.Argument(help="A bundle, a merged model folder, or: starter.")],
    image: Annotated[Path | None, typer.Option(help="The picture to begin with.")] = None,
    guard: Guard = "none",
    backend: Backend = "auto",
    max_tokens: MaxTokens = 160,
) -> None:
    """Talk about a picture. /help lists what to type besides questions.

    Example: edgereverie chat starter --image scene.png
    """
    from edgereverie import stages
    from edgereverie.errors import EdgeReverieError

    loaded = stages.open_model(model, backend=backend)
    try:
        talk = Conversation(loaded, guard=guard, max_tokens=max_tokens)
        if image is not None:
            talk.look_at(image)
        print(f"{loaded.name}. /help lists the commands.")
        while (line := _prompt()) is not None:
            try:
                if not talk.take(line.strip()):
                    break
            except EdgeReverieError as error:
                complain(f"error: {error}", f"hint: {error.hint}" if error.hint else "")
    finally:
        loaded.close()


def _prompt() -> str | None:
    """The next line; None at the end of input. Ctrl-C only empties the line."""
    while True:
        try:
            return input("> ")
        except EOFError:
            print()
            return None
        except KeyboardInterrupt:
            print("\n(/exit or Ctrl-D leaves)")


class Conversation:
    """The turns so far and the picture they are about."""

    def __init__(self, model: Any, *, guard: str, max_tokens: int) -> None:
        from edgereverie.records import Answer, Options, Turn

        self.model = model
        self.guard = guard
        self.options = Options(max_tokens=max_tokens)
        self.image: Path | None = None
        self.turns: list[Turn] = []
        self.last: Answer | None = None

    def take(self, line: str) -> bool:
        """Do what one line asks for. False when it asks to leave."""
        command, _, rest = line.partition(" ")
        if command == "/exit":
            return False
        if command == "/image":
            self.look_at(Path(rest.strip().strip("'\"")).expanduser())
        elif command == "/clear":
            self._forget()
            print("cleared")
        elif command == "/claims":
            self._claims()
        elif command == "/help":
            print(_HELP)
        elif command.startswith("/"):
            print(f"{command} is no command.\n{_HELP}")
        elif line:
            self._answer(line)
        return True

    def look_at(self, path: Path) -> None:
        """Take another picture. Raises DataError when it cannot be read, and keeps the old one."""
        from edgereverie.image import open_image

        picture = open_image(path)
        self.image = path
        self._forget()
        print(f"looking at {path} ({picture.width} x {picture.height})")

    def _forget(self) -> None:
        self.turns, self.last = [], None

    def _answer(self, question: str) -> None:
        from edgereverie.records import Turn

        turns = [*self.turns, Turn("user", question)]
        said = self._stream(turns) if self.guard == "none" else self._guarded(turns)
        if said.strip():
            self.turns = [*turns, Turn("assistant", said)]

    def _stream(self, turns: list[Any]) -> str:
        """Print the answer as it comes. Ctrl-C ends it there; what was said until then stays said."""
        said = ""
        self.last = None
        try:
            for piece in self.model.respond(self.image, turns, self.options):
                print(piece, end="", flush=True)
                said += piece
        except KeyboardInterrupt:
            print(" (stopped)", end="")
        print()
        return said

    def _guarded(self, turns: list[Any]) -> str:
        from edgereverie.cli.claims import marked

        try:
            self.last = self.model.answer(self.image, turns, self.options, self.guard)
        except KeyboardInterrupt:
            print("(stopped)")
            return ""
        console().print(marked(self.last), soft_wrap=True)
        return self.last.text

    def _claims(self) -> None:
        """A streamed answer was not checked yet: it is given once more, with its claims flagged."""
        from edgereverie.cli.claims import marked, table

        if not self.turns:
            print("Ask something first.")
            return
        if self.last is None:
            try:
                self.last = self.model.answer(self.image, self.turns[:-1], self.options, "flag")
            except KeyboardInterrupt:
                print("(stopped)")
                return
        screen = console()
        screen.print(marked(self.last), soft_wrap=True)
        if self.last.claims:
            screen.print(table(self.last))
        else:
            print("The answer makes no claim that can be checked.")
