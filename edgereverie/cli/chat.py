"""``edgereverie chat``."""

from __future__ import annotations

import shlex
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from edgereverie.cli.choices import Backend, Device, Guard, GuardProfile, guarding, guards_named, sampled
from edgereverie.cli.console import complain, console
from edgereverie.records import Options

if TYPE_CHECKING:
    from edgereverie.runtime.session import Session

_HELP = """\
/image PATH   look at this picture; the conversation begins anew. Without a path: which one it is
/why          what speaks for and against the claims of the last answer
/claims       the last answer with its claims marked, and a table of them
/guard NAMES  the guards of the next answers, or a profile, with commas between them. Without names: which they are
/clear        forget the conversation, keep the picture
/save FILE    everything that was said, as .json or .html
/help         this list
/exit         leave (so does Ctrl-D)
Ctrl-C stops an answer at its next word, twice at once; a stopped answer is forgotten.
A line that ends with \\ goes on in the next."""


@sampled
def chat(
    model: Annotated[str, typer.Argument(help="A bundle, a merged model folder, or: starter.")],
    image: Annotated[Path | None, typer.Option(help="The picture to begin with.")] = None,
    guard: Guard = None,
    guard_profile: GuardProfile = None,
    backend: Backend = "auto",
    device: Device = "auto",
    history: Annotated[
        bool, typer.Option("--history/--no-history", help="Remember what was typed for the next chat.")
    ] = True,
    *,
    options: Options,
) -> None:
    """Talk about a picture. /help lists what to type besides questions.

    Lines may come from a pipe, too: then each is answered, and nothing but the answers is printed.

    Example: edgereverie chat starter --image scene.png
    """
    from edgereverie import stages
    from edgereverie.cli.prompt import Lines, state_folder
    from edgereverie.image import open_image
    from edgereverie.runtime.session import Session

    guards = guarding(guard, guard_profile)
    if image is not None:
        open_image(image)  # a picture that cannot be read is told before the model is loaded
    folder = state_folder() if history else None
    with stages.open_model(model, backend=backend, device=device) as loaded, closing(
        Lines(complete, folder / "chat_history" if folder else None)
    ) as lines:  # fmt: skip
        talk = Talk(Session(loaded, guards, options), said=print if lines.typed else lambda _: None)
        talk.said(f"{loaded.name}. /help lists the commands.")
        if image is not None:
            talk.look(image)
        while _goes_on(talk, lines):
            pass


def _goes_on(talk: Talk, lines: Any) -> bool:
    """Take one line. Whether there may be more."""
    from edgereverie.errors import EdgeReverieError

    try:
        line = lines.read()
    except KeyboardInterrupt:
        print("\n(/exit or Ctrl-D leaves)")
        return True
    if line is None:
        return False
    try:
        return talk.take(line.strip())
    except EdgeReverieError as error:
        complain(f"error: {error}", f"hint: {error.hint}" if error.hint else "")
    except OSError as error:
        complain(f"error: {error.filename or ''}: {error.strerror or error}")
    except KeyboardInterrupt:
        print("(stopped)")
    return True


class Talk:
    """What each line does. said: prints what is no answer."""

    def __init__(self, session: Session, said: Callable[[str], None]) -> None:
        self.session = session
        self.said = said
        self._saved: set[Path] = set()
        self._hinted = False

    def take(self, line: str) -> bool:
        """Do what one line asks for. False when it asks to leave."""
        command, _, rest = line.partition(" ")
        if command == "/exit":
            return False
        if command in COMMANDS:
            COMMANDS[command](self, rest.strip())
        elif command.startswith("/") and "/" not in command[1:]:
            complain(f"{command} is no command; /help lists them.")
        elif line:
            self.ask(line)
        return True

    def ask(self, question: str) -> None:
        from edgereverie.cli.showing import Shown
        from edgereverie.runtime.request import Done

        screen = Shown()
        with stopping() as stopped, closing(self.session.ask(question)) as events:
            try:
                for event in events:
                    if isinstance(event, Done):
                        screen.finish(event.answer)
                        self._hint()
                        return
                    screen.take(event)
                    if stopped():
                        break
            except KeyboardInterrupt:
                pass
            except BaseException:
                screen.stop()
                raise
        screen.stop(" (stopped)")

    def _hint(self) -> None:
        """Once, when there is something to see."""
        answer = self.session.answer
        if answer and not self._hinted and any(claim.verdict != "supported" for claim in answer.claims):
            self._hinted = True
            self.said("(/why tells what speaks for and against the marked claims)")

    def look(self, path: Path) -> None:
        """Take another picture. Raises DataError when it cannot be read, and keeps the old one."""
        self.session.see(path)
        self.said(f"looking at {path}")

    def image(self, rest: str) -> None:
        if rest:
            self.look(Path(_unquoted(rest)).expanduser())
        else:
            print(self.session.image or "no picture; /image PATH takes one")

    def clear(self, _: str) -> None:
        self.session.clear()
        self.said("cleared")

    def guard(self, rest: str) -> None:
        from edgereverie.runtime.guarding import chosen

        if rest:
            try:
                names = guards_named(rest)
            except typer.BadParameter as error:
                complain(f"error: {error.message}")
                return
            chosen(names)
            self.session.guards = names
        print(f"guards: {self.session.guards}")

    def claims(self, _: str) -> None:
        from edgereverie.cli.claims import marked, table

        if answer := self._checked():
            screen = console()
            screen.print(marked(answer), soft_wrap=True)
            screen.print(table(answer))

    def why(self, _: str) -> None:
        from edgereverie.cli.claims import reasons

        if answer := self._checked():
            console().print(reasons(answer), soft_wrap=True)

    def _checked(self) -> Any:
        """The last answer, when it makes claims; otherwise that is said."""
        answer = self.session.checked()
        if answer is None:
            print("Ask something first.")
        elif not answer.claims:
            print("The answer makes no claim that can be checked.")
        else:
            return answer
        return None

    def save(self, rest: str) -> None:
        from edgereverie.told.transcript import transcript_html, transcript_json

        writers = {".json": transcript_json, ".html": transcript_html}
        path = Path(_unquoted(rest)).expanduser()
        if path.suffix not in writers:
            complain("error: name a file that ends with .json or .html.")
        elif path.exists() and path not in self._saved:
            complain(f"error: {path} exists already.")
        else:
            from edgereverie.bundle import write_text
            from edgereverie.runtime.evidence import why

            model = self.session.model
            said = [(each.image, each.question, each.answer) for each in self.session.transcript]
            write_text(path, writers[path.suffix](model.name, said, why))
            self._saved.add(path)
            self.said(f"wrote {path}")

    def help(self, _: str) -> None:
        print(_HELP)


COMMANDS: dict[str, Callable[[Talk, str], None]] = {
    "/image": Talk.image, "/why": Talk.why, "/claims": Talk.claims, "/guard": Talk.guard, "/clear": Talk.clear,
    "/save": Talk.save, "/help": Talk.help,
}  # fmt: skip


def complete(line: str) -> Iterator[str]:
    """Lines that begin with this one: commands, and behind some of them paths or guards."""
    from edgereverie.cli.prompt import paths
    from edgereverie.registry import GUARDS
    from edgereverie.runtime.profiles import PROFILES

    command, blank, rest = line.partition(" ")
    if not blank:
        yield from (f"{name} " for name in sorted([*COMMANDS, "/exit"]) if command and name.startswith(command))
    elif command in ("/image", "/save"):
        yield from (f"{command} {path}" for path in paths(rest))
    elif command == "/guard":
        before, comma, last = rest.rpartition(",")
        names = sorted({*GUARDS.names(), *PROFILES})
        yield from (f"{command} {before}{comma}{name}" for name in names if name.startswith(last))


@contextmanager
def stopping() -> Iterator[Callable[[], bool]]:
    """Inside, the first Ctrl-C is only noted, for an answer to end between two words; the second raises KeyboardInterrupt.

    Raised anywhere, it could come in the middle of a backend's bookkeeping.
    """
    pressed = False

    def note(number: int, frame: Any) -> None:
        nonlocal pressed
        if pressed:
            signal.default_int_handler(number, frame)
        pressed = True

    before = signal.signal(signal.SIGINT, note)
    try:
        yield lambda: pressed
    finally:
        signal.signal(signal.SIGINT, before)


def _unquoted(text: str) -> str:
    """A path as it was typed, or as a terminal writes one that is dropped on it: in quotes, or with escaped blanks.

    >>> _unquoted("my photo.png"), _unquoted("'my photo.png'")
    ('my photo.png', 'my photo.png')
    """
    if sys.platform == "win32":
        return text.strip("\"'")
    try:
        words = shlex.split(text) if set(text) & set("\"'\\") else [text]
    except ValueError:
        return text
    return words[0] if len(words) == 1 else text
