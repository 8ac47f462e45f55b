"""The page of `edge-et serve` as people use it: in Chromium, over a bundle that has a script."""

import re
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Locator, Page, Route, expect
from tiny.browser import CHROMIUM, PATIENCE_S, browsing, violations
from tiny.places import EXAMPLES
from tiny.scripted_server import ScriptedPipe, serving_a_script
from tiny.server import serving

from edge_et.errors import ImageDecodeError
from edge_et.results import (
    Answer,
    AnswerToken,
    Confidence,
    Event,
    ExtractionToken,
    PhaseUsage,
    Progress,
    ReasoningToken,
)
from edge_et.serve import ServeSettings

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed")

CAT = EXAMPLES / "cat.png"
KEY = "the key of this test"
REFUSED = "Failed to load resource"
"""What a browser logs where a reply has a status of errors."""

PHONE = {"viewport": {"width": 320, "height": 640}, "has_touch": True, "is_mobile": True}
LEAST_TARGET = 44
"""CSS pixels that a finger meets."""


def answer(text: str = "a cat", **fields: Any) -> Answer:
    usage = {
        "image": PhaseUsage(seconds=0.25, pictures=1),
        "vision": PhaseUsage(seconds=0.5, evaluated_tokens=126, pictures=1),
        "extract": PhaseUsage(seconds=1.5, evaluated_tokens=148, generated_tokens=7),
        "think": PhaseUsage(
            seconds=1.0, evaluated_tokens=24, reused_tokens=155, generated_tokens=9, answer_tokens=2
        ),
    }
    reasons = {"extract": "stop", "think": "stop", "answer": "stop"}
    told = {"extraction": "A cat (left).", "reasoning": "It is a cat.", "usage": usage}
    return Answer(text=text, **{**told, "finish_reasons": reasons, **fields})


def progress(stage: Any, phase: Any, **fields: int) -> Progress:
    return Progress(stage=stage, phase=phase, **{"done": 0, "total": 8, **fields})


TOLD: list[Event] = [
    progress("vision", "encode", total=2),
    progress("extract", "prefill", done=64, total=148),
    *map(ExtractionToken, (" A", " cat", " (left).")),
    progress("think", "prefill"),
    *map(ReasoningToken, ("It is", " a cat.")),
    progress("answer", "decode"),
    *map(AnswerToken, (" a", " cat")),
    answer(),
]


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with browsing() as browser:
        yield browser


@pytest.fixture(scope="module")
def serve(tiny_bundle: Path) -> Iterator[Callable[..., tuple[ScriptedPipe, str]]]:
    """Serve with some settings; the same server for the same ones."""
    served: dict[str, tuple[ScriptedPipe, str]] = {}
    contexts = []

    def start(**settings: Any) -> tuple[ScriptedPipe, str]:
        key = str(settings)
        if key not in served:
            pipe = ScriptedPipe()
            chosen = ServeSettings(**{"bundles": (str(tiny_bundle),), "port": 0, **settings})
            contexts.append(serving_a_script(pipe, chosen))
            served[key] = pipe, contexts[-1].__enter__()
        return served[key]

    yield start
    for context in contexts:
        context.__exit__(None, None, None)


class User:
    """Who looks at the page.

    Attributes:
        page: what they see.
        pipe: what answers.
        logged: what the browser logs.
    """

    def __init__(self, page: Page, pipe: ScriptedPipe) -> None:
        self.page = page
        self.pipe = pipe
        self.logged: list[str] = []
        page.on("console", lambda message: self.logged.append(message.text))
        page.on("pageerror", lambda err: self.logged.append(str(err)))

    def see(self, name: str) -> Locator:
        return self.page.locator(f"#{name}")

    def press(self, name: str) -> None:
        self.page.get_by_role("button", name=name, exact=True).click()

    def ask(self, question: str, script: Sequence[Any] = TOLD) -> None:
        self.pipe.script = script
        self.page.get_by_label("What do you want to know?").fill(question)
        self.press("Ask")

    def choose(self, *files: Any) -> None:
        self.page.get_by_label("Choose files").set_input_files(files)

    def history(self) -> Locator:
        return self.see("history").get_by_role("listitem")


@contextmanager
def opened(
    browser: Browser, served: tuple[ScriptedPipe, str], expected: str = REFUSED, **options: Any
) -> Iterator[User]:
    """Open the page; nothing but what is expected may be logged by the browser."""
    pipe, address = served
    context = browser.new_context(**options)
    context.set_default_timeout(PATIENCE_S * 1000)
    user = User(context.new_page(), pipe)
    user.page.goto(address)
    yield user
    context.close()
    assert [text for text in user.logged if not re.match(expected, text)] == []


@pytest.fixture(scope="module")
def window(browser: Browser, serve: Callable[..., Any]) -> Iterator[User]:
    with opened(browser, serve()) as user:
        yield user


@pytest.fixture
def user(window: User) -> User:
    """Who has just opened the page, in a window that is there already."""
    window.page.reload()
    return window


def watch_status(page: Page) -> None:
    """Have all texts kept that screen readers are told."""
    page.evaluate(
        """() => {
            const status = document.getElementById("status");
            window.told = [];
            new MutationObserver(() => window.told.push(status.textContent)).observe(
                status, { childList: true, characterData: true, subtree: true });
        }"""
    )


def test_both_stages_arrive_in_their_panes(user: User) -> None:
    seen, thought = threading.Event(), threading.Event()
    watch_status(user.page)
    user.choose(CAT)
    user.ask("What is this?", [*TOLD[:5], seen, *TOLD[5:8], thought, *TOLD[8:]])
    expect(user.see("extraction")).to_have_value("A cat (left).")
    expect(user.see("extraction")).not_to_be_editable()
    expect(user.see("status")).to_have_text("Writing down what it sees")
    expect(user.see("step")).to_have_text("Reads 64 of 148 positions")
    expect(user.see("progress")).to_have_js_property("value", 64)
    expect(user.see("reasoning")).to_be_empty()
    seen.set()
    expect(user.see("reasoning")).to_have_text("It is a cat.")
    expect(user.see("answer")).to_be_empty()
    thought.set()
    expect(user.see("answer")).to_have_text("a cat")
    expect(user.see("extraction")).to_have_value("A cat (left).")
    expect(user.see("stop")).to_be_hidden()
    expect(user.see("under-way")).to_be_hidden()
    assert user.page.evaluate("() => window.told") == [
        "Waiting for the server",
        "Looking at the picture",
        "Writing down what it sees",
        "Thinking",
        "Answering",
        "Answer: a cat",
    ]
    (asked,) = user.pipe.asked[-1:]
    assert (asked.question, list(asked.pictures)) == ("What is this?", [CAT.read_bytes()])


def test_times_are_bars_and_numbers(user: User) -> None:
    user.choose(CAT)
    user.ask("What is this?")
    times = user.see("times").get_by_role("listitem")
    expect(times).to_have_text(
        [
            "Look: 0.75 s126 image tokens made, 0 known from before",
            "Extract: 1.50 s148 positions read, 0 reused, 7 tokens written",
            "Think and answer: 1.00 s24 positions read, 155 reused, 9 tokens written",
        ]
    )
    look, extract, think = (
        bar.evaluate("(bar) => bar.getBoundingClientRect().width")
        for bar in times.locator(".bar").all()
    )
    assert look == pytest.approx(extract / 2, rel=0.01)
    assert think == pytest.approx(extract * 2 / 3, rel=0.01)


@pytest.mark.parametrize("way", ["button", "key"])
def test_a_question_is_stopped(user: User, way: str) -> None:
    never = threading.Event()
    user.ask("What is this?", [*TOLD[:4], never])
    expect(user.see("extraction")).to_have_value("A cat")
    asked = user.pipe.asked[-1]
    assert not asked.left.is_set()
    if way == "button":
        user.press("Stop")
        expect(user.see("question")).to_be_focused()
    else:
        user.page.keyboard.press("Escape")
    expect(user.see("status")).to_have_text("Stopped.")
    assert asked.left.wait(PATIENCE_S), "the call went on"
    expect(user.see("error")).to_be_empty()
    user.ask("And now?")
    expect(user.see("answer")).to_have_text("a cat")


def test_an_edited_extraction_is_thought_over(user: User) -> None:
    user.choose(CAT)
    user.ask("What is this?")
    expect(user.see("answer")).to_have_text("a cat")
    user.page.get_by_label("Extraction").fill("A dog (left).")
    usage = {"vision": PhaseUsage(), "think": PhaseUsage(seconds=1.0, evaluated_tokens=30)}
    changed = answer("a dog", extraction="A dog (left).", usage=usage)
    user.pipe.script = [*TOLD[5:8], changed]
    user.press("Think again")
    expect(user.see("answer")).to_have_text("a dog")
    expect(user.see("extraction")).to_have_value("A dog (left).")
    asked = user.pipe.asked[-1]
    assert (asked.extraction, list(asked.pictures)) == ("A dog (left).", [])
    expect(user.history()).to_have_count(2)
    expect(user.history().first).to_contain_text("thought again")


def test_the_next_question_tells_what_was_reused(user: User) -> None:
    user.choose(CAT)
    user.ask("What is this?")
    expect(user.history()).to_have_count(1)
    reused = {
        "vision": PhaseUsage(seconds=0.01, reused_tokens=126),
        "extract": PhaseUsage(seconds=0.4, evaluated_tokens=10, reused_tokens=138),
        "think": PhaseUsage(seconds=0.5, evaluated_tokens=24, reused_tokens=155),
    }
    user.ask("Is it big?", [answer("no", usage=reused)])
    expect(user.history()).to_have_count(2)
    newest, first = user.history().all()
    expect(newest.locator("summary")).to_have_text(
        "Is it big?no0.91 s, 126 image tokens known, 293 of 327 positions reused"
    )
    expect(first.locator("summary")).to_contain_text("126 image tokens made")
    newest.locator("summary").click()
    expect(newest.get_by_role("img", name="cat.png")).to_be_visible()
    expect(newest.get_by_text("It is a cat.")).to_be_visible()


def test_an_error_is_told_and_the_form_stays_usable(user: User) -> None:
    user.choose({"name": "a.png", "mimeType": "image/png", "buffer": b"no picture"})
    user.ask("What is this?", [ImageDecodeError("damaged")])
    expect(user.page.get_by_role("alert").filter(has_text="damaged")).to_be_visible()
    expect(user.see("status")).to_be_empty()
    expect(user.page.get_by_alt_text("a.png, without a preview")).to_be_visible()
    user.press("Remove a.png")
    user.ask("What is this?")
    expect(user.see("answer")).to_have_text("a cat")
    expect(user.see("error")).to_be_empty()


def test_an_error_on_the_way_is_told(user: User) -> None:
    reached = threading.Event()
    user.ask("What is this?", [*TOLD[:3], reached, RuntimeError("of the model")])
    expect(user.see("extraction")).to_have_value("A")
    reached.set()
    expect(user.see("error")).to_have_text("The model failed; see the log.")
    expect(user.see("stop")).to_be_hidden()


def test_a_server_that_fails(browser: Browser, serve: Callable[..., Any]) -> None:
    replies: dict[str, dict[str, Any]] = {
        "The server answered with status 502.": {"status": 502, "body": "<b>proxy</b>"},
        "connection ended": {"status": 200, "body": 'data: {"type": "answer", "text": "a"}\n\n'},
        "or the connection ended": {"status": 200, "body": "data: {\n\n"},
        "The server cannot be reached": {},
    }
    left = list(replies.values())

    def fail(route: Route) -> None:
        reply = left.pop(0)
        if reply:
            route.fulfill(**reply)
        else:
            route.abort()

    with opened(browser, serve(), expected=f"{REFUSED}|TypeError|SyntaxError") as user:
        user.page.route("**/edge-et/ask", fail)
        for told in replies:
            user.ask("What is this?")
            expect(user.see("error")).to_contain_text(told)
            expect(user.see("ask")).to_have_attribute("aria-disabled", "false")


def test_choices(user: User) -> None:
    user.page.get_by_label("Answer with").select_option("one of my choices")
    user.page.get_by_label("Choices").fill("cat")
    user.ask("What is this?")
    expect(user.see("error")).to_have_text("Write two choices or more.")
    expect(user.see("choices")).to_be_focused()
    expect(user.see("choices")).to_have_attribute("aria-invalid", "true")
    user.page.get_by_label("Choices").fill("cat\n\n dog \n")
    user.ask("What is this?", [answer("dog", shares={"cat": 0.034, "dog": 0.966}, value="dog")])
    expect(user.see("shares").get_by_role("listitem")).to_have_text(["dog: 97 %", "cat: 3.4 %"])
    assert user.pipe.asked[-1].options["choices"] == ("cat", "dog")
    expect(user.see("choices")).not_to_have_attribute("aria-invalid", "true")


@pytest.mark.parametrize(("kind", "asked"), [("yes or no", "yes/no"), ("a number", "number")])
def test_kinds(user: User, kind: str, asked: str) -> None:
    user.page.get_by_label("Answer with").select_option(kind)
    user.ask("What is this?")
    expect(user.see("answer")).to_have_text("a cat")
    assert user.pipe.asked[-1].options["kind"] == asked


def test_json(user: User) -> None:
    user.page.get_by_label("Answer with").select_option("JSON")
    schema = user.page.get_by_label("JSON schema")
    schema.fill("{")
    user.ask("What is this?")
    expect(user.see("error")).to_contain_text("The schema is no JSON")
    expect(schema).to_be_focused()
    schema.fill('{"type": "object"}')
    user.ask("What is this?", [answer('{"thing":"cat"}', value={"thing": "cat"})])
    expect(user.see("answer")).to_have_text('{ "thing": "cat" }')
    assert user.pipe.asked[-1].options["schema"] == {"type": "object"}


def test_a_cut_is_told(user: User) -> None:
    reasons = {"extract": "length", "think": "deadline", "answer": "stop"}
    user.ask("What is this?", [answer(finish_reasons=reasons)])
    expect(user.see("notes").get_by_role("listitem")).to_have_text(
        ["The extraction was cut: its budget of tokens was used up.", re.compile("time was up")]
    )


def test_it_is_told_how_sure_an_answer_is(user: User) -> None:
    sure = Confidence(answer=0.8123, answering=0.9, seeing=0.95, thinking=0.954)
    user.ask("What is this?", [answer(confidence=sure)])
    assert user.pipe.asked[-1].options["confidence"] == "written"
    told = user.see("sure")
    expect(told).to_contain_text("How sure: 0.81 of 1 (seeing 0.95, thinking 0.95)")
    user.ask("What is this?", [answer(confidence=Confidence(answer=0.5, answering=0.5))])
    expect(told).to_contain_text("How sure: 0.50 of 1. It can be")
    user.ask("What is this?", [answer()])
    expect(told).to_be_hidden()


def test_what_models_and_files_say_is_text(user: User) -> None:
    told = "<img src=x onerror=alert(1)><script>alert(2)</script>"
    user.choose({"name": f"{told}.png", "mimeType": "image/png", "buffer": CAT.read_bytes()})
    fields = {"extraction": told, "reasoning": told, "shares": {told: 1.0}}
    events = (ExtractionToken(told), ReasoningToken(told), AnswerToken(told))
    user.ask(told, [*events, answer(told, **fields)])
    expect(user.see("answer")).to_have_text(told)
    expect(user.see("reasoning")).to_have_text(told)
    expect(user.history().locator("summary")).to_contain_text(told)
    assert user.page.locator("img[src=x]").count() == 0


def test_several_pictures(user: User) -> None:
    files = [
        {"name": f"{name}.png", "mimeType": "image/png", "buffer": name.encode()}
        for name in ("one", "two", "three")
    ]
    user.choose(*files)
    expect(user.see("pictures").get_by_role("listitem")).to_have_count(3)
    user.press("Remove two.png")
    expect(user.page.get_by_role("button", name="Remove three.png")).to_be_focused()
    reached = threading.Event()
    script: list[Any] = [
        progress("vision", "encode", picture=1),
        ExtractionToken("A cat."),
        ExtractionToken(" A dog.", picture=1),
        reached,
        answer(),
    ]
    user.ask("What are they?", script)
    expect(user.see("status")).to_have_text("Looking at the picture, picture 2 of 2")
    expect(user.see("extraction")).to_have_value("A cat.\nA dog.")
    reached.set()
    expect(user.see("answer")).to_have_text("a cat")
    assert list(user.pipe.asked[-1].pictures) == [b"one", b"three"]


@pytest.mark.parametrize("way", ["paste", "drop"])
def test_pictures_are_pasted_and_dropped(user: User, way: str) -> None:
    user.page.evaluate(
        """(way) => {
            const data = new DataTransfer();
            data.items.add(new File(["seen"], "seen.png", { type: "image/png" }));
            data.items.add(new File(["read"], "read.txt", { type: "text/plain" }));
            const told = { bubbles: true, cancelable: true };
            document.body.dispatchEvent(way === "paste"
                ? new ClipboardEvent("paste", { ...told, clipboardData: data })
                : new DragEvent("drop", { ...told, dataTransfer: data }));
        }""",
        way,
    )
    expect(user.see("pictures").get_by_role("listitem")).to_have_count(1)
    expect(user.see("error")).to_have_text("This is no picture: read.txt.")
    user.ask("What is this?")
    expect(user.see("answer")).to_have_text("a cat")
    assert list(user.pipe.asked[-1].pictures) == [b"seen"]


def test_a_kind_that_the_server_does_not_read_is_drawn_anew(user: User) -> None:
    svg = (
        b"<svg xmlns='http://www.w3.org/2000/svg' width='40' height='30'><path d='M0 0h9v9'/></svg>"
    )
    user.choose({"name": "a.svg", "mimeType": "image/svg+xml", "buffer": svg})
    user.ask("What is this?")
    expect(user.see("answer")).to_have_text("a cat")
    (sent,) = user.pipe.asked[-1].pictures
    assert sent.startswith(b"\xff\xd8\xff")


def test_limits_are_told_before_anything_is_sent(
    browser: Browser, serve: Callable[..., Any]
) -> None:
    with opened(browser, serve(max_images=2, max_body_bytes=2**20)) as user:
        picture = {"name": "a.png", "mimeType": "image/png", "buffer": bytes(2**20)}
        user.choose(picture, picture, picture)
        expect(user.see("error")).to_have_text(
            "This server takes up to 2 pictures in one question."
        )
        expect(user.see("pictures").get_by_role("listitem")).to_have_count(2)
        user.ask("What is this?")
        expect(user.see("error")).to_have_text(
            "The pictures make 2.7 MB, this server takes 1.0 MB."
        )
        assert user.pipe.asked == []


def test_a_model_is_chosen(
    browser: Browser, serve: Callable[..., Any], tiny_bundle: Path, user: User
) -> None:
    expect(user.see("model")).to_be_hidden()
    with opened(browser, serve(bundles=("mini", str(tiny_bundle)))) as user:
        user.page.get_by_label("Model").select_option("tiny")
        user.ask("What is this?")
        expect(user.see("answer")).to_have_text("a cat")
        assert user.pipe.loaded == ["tiny"]


def test_a_key_is_asked_for_and_kept_for_the_tab(
    browser: Browser, serve: Callable[..., Any]
) -> None:
    with opened(browser, serve(api_key=KEY)) as user:
        field = user.page.get_by_label("This server asks for a key")
        expect(field).to_be_focused()
        assert violations(user.page) == []
        field.fill("another key")
        field.press("Enter")
        expect(user.see("key-error")).to_have_text("The key is wrong.")
        field.fill(KEY)
        user.press("Use this key")
        expect(field).to_be_hidden()
        user.ask("What is this?")
        expect(user.see("answer")).to_have_text("a cat")
        user.page.reload()
        user.ask("What is this?")
        expect(user.see("answer")).to_have_text("a cat")
        expect(field).to_be_hidden()
        assert user.page.evaluate("() => [localStorage.length, document.cookie]") == [0, ""]
        assert KEY not in user.page.url


def reach_every_state(user: User) -> Iterator[str]:
    """Lead the page from state to state; yield what each is."""
    yield "empty"
    user.choose(CAT, CAT)
    user.page.get_by_label("Answer with").select_option("one of my choices")
    user.page.get_by_label("Choices").fill("cat\ndog")
    never = threading.Event()
    user.ask("What is this?", [*TOLD[:4], never])
    expect(user.see("extraction")).to_have_value("A cat")
    yield "running"
    user.press("Stop")
    reasons = {"extract": "length", "think": "stop", "answer": "stop"}
    long = "x" * 200
    told = answer(long, extraction=long, shares={"cat": 0.5, long: 0.5}, finish_reasons=reasons)
    user.ask(long, [told])
    expect(user.history()).to_have_count(1)
    user.history().locator("summary").click()
    yield "answered"
    user.page.get_by_label("Answer with").select_option("JSON")
    user.page.get_by_label("JSON schema").fill("{")
    user.ask("What is this?")
    expect(user.see("error")).to_contain_text("no JSON")
    yield "an error"


@pytest.mark.parametrize(
    ("colours", "size"), [("light", {}), ("dark", PHONE)], ids=["desktop", "phone"]
)
def test_axe_finds_nothing_and_all_fits(
    browser: Browser, serve: Callable[..., Any], colours: str, size: dict[str, Any]
) -> None:
    with opened(browser, serve(), color_scheme=colours, reduced_motion="reduce", **size) as user:
        for state in reach_every_state(user):
            assert violations(user.page) == [], state
            wide, narrow = user.page.evaluate(
                "() => [document.documentElement.scrollWidth, window.innerWidth]"
            )
            assert wide <= narrow, f"{state}: it has to be scrolled sideways"
            for target in user.page.locator("button, select, textarea, summary, .button").all():
                box = target.bounding_box()
                assert box is None or box["height"] >= LEAST_TARGET, (state, target.inner_html())


def test_a_phone_takes_a_photo(browser: Browser, serve: Callable[..., Any], user: User) -> None:
    expect(user.see("take-photo")).to_be_hidden()
    with opened(browser, serve(), **PHONE) as phone:
        camera = phone.page.get_by_label("Take a photo")
        expect(phone.see("take-photo")).to_be_visible()
        expect(camera).to_have_attribute("capture", "environment")
        camera.set_input_files(CAT)
        expect(phone.see("pictures").get_by_role("listitem")).to_have_count(1)


def test_the_keyboard_is_enough(user: User) -> None:
    keys, never = user.page.keyboard, threading.Event()
    user.choose(CAT)
    expect(user.page.get_by_role("button", name="Remove cat.png")).to_be_visible()
    reached = []
    for _ in range(7):
        keys.press("Tab")
        reached.append(user.page.evaluate("() => document.activeElement.id"))
    assert reached == ["", "files", "question", "form", "ask", "extraction", "rethink"]
    user.see("question").focus()
    user.pipe.script = [*TOLD[:4], never]
    keys.type("What is")
    keys.press("Shift+Enter")
    keys.type("this?")
    keys.press("Enter")
    expect(user.see("extraction")).to_have_value("A cat")
    assert user.pipe.asked[-1].question == "What is\nthis?"
    expect(user.see("question")).to_be_focused()
    for _ in range(3):
        keys.press("Tab")
    expect(user.see("stop")).to_be_focused()
    user.pipe.script = TOLD
    keys.press("Space")
    expect(user.see("status")).to_have_text("Stopped.")
    expect(user.see("question")).to_be_focused()
    keys.press("Tab")
    keys.press("Tab")
    keys.press("Space")
    expect(user.see("answer")).to_have_text("a cat")
    expect(user.see("ask")).to_be_focused()
    keys.press("Tab")
    keys.type(" It sleeps.")
    keys.press("Tab")
    keys.press("Enter")
    expect(user.history()).to_have_count(2)
    assert user.pipe.asked[-1].extraction is not None
    assert "It sleeps." in user.pipe.asked[-1].extraction
    keys.press("Tab")
    keys.press("Enter")
    expect(user.history().first.locator("dl")).to_be_visible()


def test_a_server_as_users_start_it(browser: Browser, tiny_bundle: Path) -> None:
    with (
        serving(str(tiny_bundle)) as served,
        opened(browser, (ScriptedPipe(), served.address)) as user,
    ):
        user.choose(CAT)
        user.ask("What is this?")
        expect(user.history()).to_have_count(1)
        expect(user.history().first).to_contain_text("16 image tokens made")
        user.ask("Is it red?")
        expect(user.history()).to_have_count(2)
        expect(user.history().first).to_contain_text("16 image tokens known")
        user.page.get_by_label("Extraction").fill("A red ball.")
        user.press("Think again")
        expect(user.history()).to_have_count(3)
        expect(user.see("extraction")).to_have_value("A red ball.")
