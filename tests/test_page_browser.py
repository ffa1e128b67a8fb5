"""The page in a real browser: the list, the editor and what it says, its history, what strangers send."""

from __future__ import annotations

import asyncio
import importlib.util
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from aiohttp import web
from browser import Page, Person, Site, same_text, until, until_matching
from serving import PATIENCE, files, serving

from egwalker import Document, connect
from egwalker.formats import save
from egwalker.hub import Permission
from egwalker.links import Link
from egwalker.transports.aiohttp import Token, setup
from egwalker.transports.file import FileTransport

if TYPE_CHECKING:
    from playwright.async_api import Browser, Locator, Route

pytestmark = pytest.mark.asyncio(loop_scope="session")

SAVED = "^All changes saved$"
HOSTILE = "<img src=x onerror=alert(1)>\u202egnp.<b>&amp;\u0000\u0007\u200f\r\r\n\u2028end"
CARETS = """
async () => {
    const { EditorView } = await import("/-/vendor/codemirror.js");
    const view = EditorView.findFromDOM(document);
    return [...document.querySelectorAll(".cm-remote-caret")]
        .map((caret) => [caret.dataset.name, view.posAtDOM(caret)]);
}
"""


async def carets(page: Page) -> dict[str, int]:
    """Where others' carets are drawn, by name, in UTF-16 units."""
    return dict(await page.tab.evaluate(CARETS))


async def call(page: Page, name: str) -> None:
    """Give oneself a name."""
    await page.tab.locator("#here").click()
    await page.tab.get_by_label("Your name").focus()
    await page.press("Control+a")
    await page.type(name)
    await page.press("Enter")
    await page.editor.focus()


async def said(page: Page, selector: str, pattern: str) -> str:
    """Wait until an element's text matches."""
    return await until_matching(page.tab.locator(selector).inner_text, pattern, selector)


@asynccontextmanager
async def embedded(engine: Browser, app: web.Application, folder: Path) -> AsyncIterator[Site]:
    """People with browsers at an application of this process."""
    async with serving(app) as port:
        site = Site(engine, folder)
        site.server.url = f"http://127.0.0.1:{port}/"
        try:
            yield site
        finally:
            await site.close()


def application(folder: Path, **options: Any) -> web.Application:
    app = web.Application()

    async def listing() -> list[tuple[str, float | None]]:
        return await FileTransport().places(f"file:{folder}/")

    folder.mkdir(parents=True, exist_ok=True)
    setup(app, files(folder), page=True, listing=listing, **options)
    return app


class TestList:
    async def test_a_document_is_made_and_found_with_who_is_in(self, site: Site) -> None:
        """With the keyboard alone."""
        ann, bob = await site.person("ann"), await site.person("bob")
        page = await ann.go(site.server.url)
        await said(page, "#status", "^0 documents$")
        await page.press("Tab")
        await page.type("Käse & <b>bold?")
        await said(page, "#go", "Make")
        await page.press("Enter")
        await page.ready()
        assert await page.tab.title() == "Käse & <b>bold?"
        assert await page.tab.locator("h1").inner_text() == "Käse & <b>bold?"
        await call(page, "Ann")
        await page.type("hello")
        await page.until_status(SAVED)

        other = await bob.go(site.server.url)
        row = other.tab.locator("#documents li")
        await said(other, "#documents", "Ann")
        assert await row.get_by_role("link").inner_text() == "Käse & <b>bold?"
        assert re.search("just now|minutes? ago", await row.inner_text())
        await other.tab.get_by_role("textbox").fill("bold")
        await said(other, "#go", "Make")
        await other.tab.get_by_role("textbox").focus()
        await other.press("Tab", "Tab", "Enter")
        await other.ready()
        await other.until_text("hello")
        await other.press("Shift+Tab")

    async def test_names_that_cannot_be(self, site: Site) -> None:
        ann = await site.person("ann")
        site.expected.append("status of 400")  # the browser's own words for what the page asked on purpose
        page = await ann.go(site.server.url)
        for name in "a/b", "..", "-", "x" * 300:
            await page.tab.get_by_role("textbox").fill(name)
            await page.press("Enter")
            await said(page, "#hint", "[Aa] document's name (has up to|is more than)")
        assert not list(site.server.folder.glob("*"))

    async def test_many(self, site: Site) -> None:
        for number in range(500):
            (site.server.folder / f"n{number}.egw").touch()
        ann = await site.person("ann")
        page = await ann.go(site.server.url)
        await said(page, "#status", "^200 documents and more$")
        await page.tab.get_by_role("textbox").fill("n49")
        await said(page, "#status", "^11 documents$")


class TestEditor:
    async def test_carets_and_selections_with_names(self, site: Site) -> None:
        one, two = await site.couple(2, "x")
        await call(one, "Ann")
        await call(two, "Bøb 👩‍🚀")
        await one.paste("first 👩‍🚀 line\nsecond line")
        await two.until_text("first 👩‍🚀 line\nsecond line")

        async def at(page: Page, wanted: dict[str, int]) -> None:
            async def there() -> bool:
                return await carets(page) == wanted

            await until(there, f"the carets are not {wanted}")

        await one.go_to(14)
        await at(two, {"Ann": 14})
        # Her caret goes with the text around it, before she does anything.
        await two.go_to(0)
        await two.type("zero ")
        await at(two, {"Ann": 19})
        await at(one, {"Bøb 👩‍🚀": 5})
        assert await one.caret() == 19
        await two.press("Control+Home")
        await two.press("Shift+End")
        marked = one.tab.locator(".cm-remote-selection")
        await said(one, ".cm-remote-selection >> nth=0", "zero first")
        assert "zero first 👩‍🚀 line" in "".join(await marked.all_inner_texts())
        await two.close()
        await at(one, {})
        await one.tab.locator("#here[aria-label='Only you are here']").wait_for()

    async def test_names_stand_at_carets(self, site: Site) -> None:
        """Also when somebody types before them."""
        one, two = await site.couple(2, "x")
        await two.tab.evaluate(
            """() => {
                const sheet = new CSSStyleSheet();
                sheet.replaceSync(".cm-editor .cm-remote-caret::after { pointer-events: auto }");
                document.adoptedStyleSheets = [...document.adoptedStyleSheets, sheet];
            }"""
        )

        async def stands(at: int) -> None:
            """Who points below the caret, which is in the first line, finds the name, and not before it."""

            async def there() -> bool:
                return list((await carets(two)).values()) == [at]

            await until(there, "the caret is elsewhere")
            assert await two.tab.evaluate(
                """() => {
                    const caret = document.querySelector(".cm-remote-caret");
                    const { left, bottom } = caret.getBoundingClientRect();
                    const found = [-60, 10].map((x) => document.elementFromPoint(left + x, bottom + 8));
                    return found[0] !== caret && found[1] === caret;
                }"""
            )

        await one.type("some words of one in one line")
        await stands(29)
        await two.screenshot("name")
        await two.press("Control+Home")
        await two.type("here and there ")
        await stands(44)

    async def test_undo_is_for_ones_own(self, site: Site) -> None:
        one, two = await site.couple(2, "x")
        await one.paste("mine ")
        await two.until_text("mine ")
        await two.press("Control+End")
        await two.paste("theirs ")
        await one.until_text("mine theirs ")
        await one.press("Control+z")
        await two.until_text("theirs ")
        await one.press("Control+y")
        assert await same_text(one, two) == "mine theirs "
        await two.press("Control+z")
        await one.until_text("mine ")

    async def test_what_others_do_does_not_move_what_one_sees(self, site: Site) -> None:
        one, two = await site.couple(2, "x")
        await one.paste("".join([f"line {number}\n" for number in range(300)]))
        await two.until_text(lambda text: "line 299" in text)
        at = (await one.text()).index("line 150\n")
        await one.tab.evaluate(
            """async (at) => {
                const { EditorView } = await import("/-/vendor/codemirror.js");
                const view = EditorView.findFromDOM(document);
                const effects = EditorView.scrollIntoView(at, { y: "center" });
                view.dispatch({ selection: { anchor: at }, effects });
            }""",
            at,
        )
        line = one.tab.locator(".cm-line", has_text=re.compile("^line 150$"))
        await line.wait_for()
        before = await at_rest(line)
        await two.press("Control+Home")
        await two.paste("one more\n" * 50)
        await one.until_text(lambda text: text.startswith("one more"))
        assert abs(await at_rest(line) - before) < 3
        assert await one.caret() == at + 50 * len("one more\n")

    async def test_strangers_names_and_texts_are_text(self, site: Site) -> None:
        """Whatever they are: nothing runs, is loaded, or is turned around, and both have the same."""
        one = (await site.couple(1, "x"))[0]
        stranger = Document(agent=f"{HOSTILE[:20]}.abcdefgh")
        async with connect(site.server.url_of("x"), stranger) as link:
            assert isinstance(link, Link)
            await link.synced()
            stranger.insert(0, HOSTILE)
            link.show({"name": HOSTILE, "color": "red;} * {display:none", "anchor": 0, "head": 4})
            for number, state in enumerate([7, "x", [], {}, {"name": 1, "head": -1e300}, {"head": "x"}]):
                link.show(state, f"odd {number}")
            await one.until_text(HOSTILE)
            await one.press("Control+End")
            await one.type("!")
            await link.synced()
            await one.until_status(SAVED)

            async def arrived() -> bool:
                return str(stranger) == HOSTILE + "!"

            await until(arrived, "the text is another")
            await one.tab.locator("#here").click()
            shown = await one.tab.locator("#names li").nth(1).inner_text()
            assert "<img src=x onerror=alert(1)>\ufffdgnp" in shown
            assert "\u202e" not in shown
            await one.press("Escape")
            await one.tab.locator("#history").click()
            await said(one, "#authors", "<img src=x onerror=")
            assert await one.tab.locator("img[src], script:not([src]), style").count() == 0

    async def test_lines(self, site: Site) -> None:
        """Enter breaks a line: nothing is there that nobody typed."""
        one, two = await site.couple(2, "x")
        await one.type("  - some\n- more\n\n")
        await one.press("Shift+Enter")
        await one.type("end")
        await two.until_text("  - some\n- more\n\n\nend")

    async def test_no_half_characters(self, site: Site) -> None:
        """What a script, or an odd input method, would cut in two stays whole."""
        one, two = await site.couple(2, "x")
        await one.paste("a👩b")
        await two.until_text("a👩b")
        for change in '{ from: 1, insert: "\\ud83d" }', "{ from: 2, to: 3 }":
            await one.tab.evaluate(
                f"""async () => {{
                    const {{ EditorView }} = await import("/-/vendor/codemirror.js");
                    EditorView.findFromDOM(document).dispatch({{ changes: {change} }});
                }}"""
            )
            await one.until_text("a👩b")
        await one.press("Control+End")
        await one.type("c")
        assert await same_text(one, two) == "a👩bc"

    async def test_a_megabyte(self, site: Site) -> None:
        """Only what is on the screen is drawn, and what is typed is in it and elsewhere."""
        document = Document(agent="ann")
        lines = [f"{number:07} some words and more of them\n" for number in range(30_000)]
        document.insert(0, "".join(lines))
        async with connect(site.server.url_of("x"), document) as link:
            await link.persisted()
        one, two = await site.couple(2, "x")
        await one.until_text(document.content)
        await one.press("Control+End")
        await one.type("the end")
        await two.until_text(document.content + "the end")
        assert await one.tab.locator(".cm-line").count() < 500
        await one.until_status(SAVED)

    async def test_one_very_long_line(self, site: Site) -> None:
        """No more of it is ever laid out than can be seen, and some before and after that."""
        document = Document(agent="ann")
        document.insert(0, "some words and more of them " * 15_000)
        async with connect(site.server.url_of("x"), document) as link:
            await link.persisted()
        ann = await site.person("ann")
        # Whenever something is measured all that is drawn is laid out.
        await ann.context.add_init_script(
            """const measure = Element.prototype.getBoundingClientRect;
            window.most = 0;
            Element.prototype.getBoundingClientRect = function () {
                const { length } = document.querySelector(".cm-content")?.textContent ?? "";
                window.most = Math.max(window.most, length);
                return measure.call(this);
            };"""
        )
        for _ in range(2):
            page = await ann.open("x")
            await page.until_text(document.content)
            await page.until_status(SAVED)
            assert 1000 < await page.tab.evaluate("window.most") < 50_000
            # It is kept then, and shown from there.
            await until(partial(all_kept, page), "it is not kept")
            await page.close()

    async def test_on_a_phone(self, site: Site) -> None:
        phone = {"viewport": {"width": 360, "height": 640}, "has_touch": True, "is_mobile": True}
        ann = await site.person("ann", **phone)
        page = await ann.open("a name that is rather long for such a small screen, as names are")
        await page.type("word " * 40)
        await page.until_status(SAVED)
        for _ in range(2):
            width = await page.tab.evaluate("document.documentElement.scrollWidth")
            assert width <= 360
            for button in await page.tab.locator("button:visible, a:visible").all():
                box = await button.bounding_box()
                assert box is not None
                assert box["height"] >= 32
                assert box["x"] >= 0
                assert box["x"] + box["width"] <= 360
            await page.tab.locator("#history").click()
            await said(page, "#when", "now")


class TestListening:
    """Whoever hears the page, or has no mouse."""

    async def test_everything_has_a_name(self, site: Site) -> None:
        page = (await site.couple(1, "x"))[0]
        await page.type("words")
        await page.until_status(SAVED)
        await page.tab.locator("#history").click()
        await said(page, "#when", "now")
        nameless = await page.tab.evaluate(
            """() => [...document.querySelectorAll("button, a, input, [contenteditable=true]")]
                .filter((one) => !(one.ariaLabel || one.labels?.length || one.textContent.trim()))
                .map((one) => one.outerHTML)"""
        )
        assert nameless == []
        slider = page.tab.get_by_role("slider")
        assert await slider.get_attribute("aria-valuetext") == "now: 5 events"
        await slider.focus()
        await page.press("ArrowLeft")
        await said(page, "#when", "event 4 of 5")
        assert await slider.get_attribute("aria-valuetext") == "event 4 of 5"
        await page.press("Escape")
        assert await page.tab.locator("#history").evaluate("(it) => it === document.activeElement")
        await page.until_status(SAVED)

    async def test_ones_name_by_keyboard(self, site: Site) -> None:
        page = (await site.couple(1, "x"))[0]

        async def until_at(name: str) -> None:
            there = f"document.activeElement.id === '{name}'"
            await until(partial(page.tab.evaluate, there), f"not at {name}")

        await page.press("Shift+Tab", "Shift+Tab")
        await until_at("here")
        await page.press("Enter")
        await until_at("people")
        await page.press("Tab")
        await until_at("my-name")
        await page.press("Control+a")
        await page.type("Ann")
        await page.press("Enter")
        await until_at("here")
        assert await page.tab.evaluate("localStorage.getItem('egwalker.name')") == "Ann"

    async def test_who_comes_and_goes_is_told(self, site: Site) -> None:
        one = (await site.couple(1, "x"))[0]
        await asyncio.sleep(2.2)
        bob = await site.person("bob")
        two = await bob.open("x")
        await said(one, "#news", "[A-Z][a-z]+ [A-Z][a-z]+ came$")
        await two.close()
        await said(one, "#news", "[A-Z][a-z]+ [A-Z][a-z]+ left$")
        await site.server.kill()
        await said(one, "#news", "^Offline – all changes saved$")
        await site.server.start()
        await said(one, "#news", "^All changes saved$")

    @pytest.mark.parametrize("scheme", ["light", "dark"])
    async def test_contrast(self, site: Site, scheme: str) -> None:
        ann = await site.person("ann", color_scheme=scheme)
        page = await ann.open("x")
        await page.type("words")
        await page.until_status(SAVED)
        await page.tab.locator("#history").click()
        await said(page, "#authors", "100 %")
        poor = await page.tab.evaluate(
            """() => {
                const light = (color) => {
                    const [r, g, b] = color.match(/[0-9.]+/g).map((part) => {
                        part /= 255;
                        return part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4;
                    });
                    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
                };
                const behind = (one) => {
                    for (; one; one = one.parentElement) {
                        const color = getComputedStyle(one).backgroundColor;
                        if (!/^rgba\\(.*, 0\\)$/.test(color)) return color;
                    }
                    return "rgb(255, 255, 255)";
                };
                const found = [];
                for (const one of document.querySelectorAll("body *")) {
                    const says = [...one.childNodes].some((node) => node.nodeType === 3 && node.data.trim());
                    if (!says || !one.checkVisibility() || one.disabled) continue;
                    if (one.closest(".heard, noscript")) continue;
                    const both = [light(getComputedStyle(one).color), light(behind(one))];
                    const [a, b] = both.sort((x, y) => y - x);
                    const contrast = (a + 0.05) / (b + 0.05);
                    if (contrast < 4.5) found.push([one.outerHTML.slice(0, 100), contrast]);
                }
                return found;
            }"""
        )
        assert poor == []


class TestOffline:
    async def test_what_was_typed_survives_the_tab(self, site: Site) -> None:
        ann, bob = await site.person("ann"), await site.person("bob")
        one, two = await ann.open("x"), await bob.open("x")
        await one.type("before. ")
        await two.until_text("before. ")
        await one.until_status(SAVED)
        await one.tab.evaluate("navigator.serviceWorker.ready")
        await site.server.kill()
        await one.until_status("^Offline – all changes saved$")
        await one.type("without a connection. ")
        await one.until_status("^Offline – changes are kept in this browser$")
        await one.close()

        # The page opens without the server, too, and the list says what is not sent.
        listed = await ann.go(site.server.url)
        await said(listed, "#documents", "changes not sent yet")
        again = await ann.open("x")
        await again.until_text("before. without a connection. ")
        await again.until_status("^Offline – changes are kept in this browser$")
        await two.press("Control+Home")
        await two.type("Bob, ")

        await site.server.start()
        await again.until_status(SAVED)
        await two.until_status(SAVED)
        assert await same_text(again, two) == "Bob, before. without a connection. "
        assert site.server.stored("x").content == "Bob, before. without a connection. "

    async def test_each_tab_is_somebody_else(self, site: Site) -> None:
        """Two tabs of one browser type at one place without a connection, and close: another brings both."""
        ann = await site.person("ann")
        tabs = [await ann.open("x") for _ in range(2)]
        await tabs[0].until_status(SAVED)
        await tabs[0].tab.evaluate("navigator.serviceWorker.ready")
        await site.server.kill()
        for number, tab in enumerate(tabs):
            await tab.until_status("^Offline")
            await tab.editor.focus()
            await tab.type(f"tab {number} ")
            await tab.until_status("^Offline – changes are kept in this browser$")
        for tab in tabs:
            await tab.close()
        await site.server.start()
        last = await ann.open("x")
        await last.until_text(lambda text: "tab 0 " in text and "tab 1 " in text and len(text) == 12)
        await last.until_status(SAVED)

        async def nothing_left() -> bool:
            return all(facts["unsaved"] == 0 for _, facts in await stored(last, "facts"))

        await until(nothing_left, "something is unsaved still")
        assert len(set(site.server.stored("x").version_vector)) == 2

    async def test_what_is_typed_is_kept_without_all_the_rest(self, site: Site) -> None:
        """A large text is kept once, and with it what came since; until that is much, too."""
        document = Document(agent="before")
        document.insert(0, "words " * 20_000)
        async with connect(site.server.url_of("x"), document) as link:
            await link.persisted()
        ann = await site.person("ann")
        page = await ann.open("x")
        await page.stays()

        async def sizes() -> list[int]:
            return [int(size) for _, size in await stored(page, "dumps")]

        await until(partial(all_kept, page), "it is not kept")
        await site.server.kill()
        await page.until_status("^Offline")
        kept = "^Offline – changes are kept in this browser$"
        for word in ("one ", "two ", "three "):
            await page.paste(word)
            await page.until_status(kept)
        whole, *updates = await sizes()
        assert whole > 100_000
        assert len(updates) >= 3
        assert sum(updates) < 500
        await page.paste("much " * 10_000)
        await page.until_status(kept)
        await page.paste("more ")
        await page.until_status(kept)
        whole, *updates = await sizes()
        assert whole > 150_000
        assert sum(updates) < 500
        text = await page.text()
        assert text.startswith("one two three much much ")
        await page.close()
        page = await ann.open("x")
        assert await page.text() == text
        await site.server.start()
        await page.until_status(SAVED)
        assert site.server.stored("x").content == text

    async def test_a_browser_is_asked_to_keep_it_when_there_is_no_connection(self, site: Site) -> None:
        """Some ask whoever sits there: not because a server takes its time."""
        ann = await site.person("ann")
        wire = await ann.wire()
        page = await ann.open("x")
        await page.until_status(SAVED)
        await page.tab.evaluate(
            """() => {
                window.asked = 0;
                navigator.storage.persist = async () => { window.asked++; };
            }"""
        )
        wire.hold()
        await page.type("waits")
        await until(partial(stored, page, "dumps"), "nothing is kept")
        assert await page.tab.evaluate("window.asked") == 0
        await site.server.kill()
        await page.until_status("^Offline – changes are kept in this browser$")
        await page.type("!")
        await until(partial(page.tab.evaluate, "window.asked"), "it is not asked")

    async def test_another_document_of_the_name(self, site: Site) -> None:
        """What cannot be merged is not lost, and said."""
        ann = await site.person("ann")
        page = await ann.open("x")
        await page.type("mine")
        await page.until_status(SAVED)
        await page.tab.evaluate("navigator.serviceWorker.ready")
        await site.server.kill()
        await page.until_status("^Offline")
        await page.type(" and more")
        await page.until_status("^Offline – changes are kept in this browser$")
        (site.server.folder / "x.egw").unlink()
        other = Document(agent="bob", id="0" * 32)
        other.insert(0, "another")
        save(other, site.server.folder / "x.egw")
        await site.server.start()
        await page.until_status("^Stopped – not everything is saved$")
        assert "kept in this browser" in await said(page, "#notice", "document")
        button = page.tab.get_by_role("button", name="Save my text as a file")
        assert await page.saved_file(button) == "mine and more"
        await page.tab.get_by_role("button", name="Forget what is kept").click()
        await page.tab.get_by_role("button", name="Forget it: what is not on the server").click()
        await page.until_status(SAVED)
        await page.ready()
        await page.until_text("another")


async def all_kept(page: Page) -> bool:
    """Whether a text of some length is kept as a whole: what is there before it has come is, too."""
    return any(size > 1000 for _, size in await stored(page, "dumps"))


async def at_rest(line: Locator) -> float:
    """How far down something is, when it has not moved for so many frames."""
    found: float = await line.evaluate(
        """async (line) => {
            let [y, frames] = [NaN, 0];
            while (frames < 20) {
                await new Promise(requestAnimationFrame);
                const now = line.getBoundingClientRect().y;
                frames = now === y ? frames + 1 : 0;
                y = now;
            }
            return y;
        }"""
    )
    return found


async def stored(page: Page, name: str) -> list[tuple[Any, Any]]:
    """What one of the browser's object stores has, by key; of bytes their number."""
    found: list[tuple[Any, Any]] = await page.tab.evaluate(
        """(name) => new Promise((done) => {
            indexedDB.open("egwalker").onsuccess = ({ target: { result: database } }) => {
                const found = [];
                const walk = database.transaction(name).objectStore(name).openCursor();
                walk.onsuccess = () => {
                    const { result: at } = walk;
                    if (at) {
                        found.push([at.key, at.value.byteLength ?? at.value]);
                        at.continue();
                    } else {
                        database.close();
                        done(found);
                    }
                };
            };
        })""",
        name,
    )
    return found


class TestHistory:
    async def test_any_moment_and_who_wrote_it(self, site: Site) -> None:
        pages = await site.couple(2, "x")
        await pages[0].type("Hello ")
        for page, name in zip(pages, ("Ann", "Bob"), strict=True):
            await call(page, name)
        # What is written under a name is under that name.
        await pages[0].press(*["Backspace"] * 6)
        await pages[0].type("Dear all, ")
        await pages[1].until_text("Dear all, ")
        await pages[1].press("Control+End")
        await pages[1].type("👩 yours")
        await pages[0].until_text("Dear all, 👩 yours")
        page = pages[0]
        await page.until_status(SAVED)
        await page.tab.locator("#history").click()
        assert (await said(page, "#authors", "44")).split() == ["Ann", "56", "%", "Bob", "44", "%"]
        past = page.tab.locator("#past-text .cm-content")
        assert (await past.inner_text()).removesuffix("\n") == "Dear all, 👩 yours"
        assert await page.tab.locator("#past-text .by").all_inner_texts() == ["Dear all, ", "👩 yours"]
        await page.tab.get_by_role("button", name="Earlier").click()
        await said(page, "#when", "event 22 of 29")
        await said(page, "#past-text .cm-content", "^Dear all, ?$")
        await page.tab.get_by_role("slider").fill("5")
        await said(page, "#past-text .cm-content", "^Hello$")
        await said(page, "#authors", "^[A-Z][a-z]+ [A-Z][a-z]+\\s100 %$")
        await page.tab.get_by_role("slider").fill("16")
        await said(page, "#past-text .cm-content", "^Dear$")
        await said(page, "#authors", "Ann\\s100 %")
        await page.tab.locator("#past-text .by").hover()
        await said(page, "#wrote", "written by Ann")
        # What is shown of the past is not what one edits, and what is edited otherwise is not to be seen.
        await past.focus()
        await page.type("nothing")
        await page.tab.get_by_role("slider").focus()
        await page.type("nothing")
        await page.press("Backspace")
        await page.tab.get_by_role("button", name="Back to now").click()
        assert await page.text() == "Dear all, 👩 yours"

    async def test_left_before_it_is_there(self, site: Site) -> None:
        """Who does not wait for the first moment has the text again, and keeps it when the moment comes."""
        page = (await site.couple(1, "x"))[0]
        await page.type("words")
        await page.until_status(SAVED)
        asked, answered, go_on = asyncio.Event(), asyncio.Event(), asyncio.Event()

        async def hold(route: Route) -> None:
            asked.set()
            await go_on.wait()
            await route.continue_()
            answered.set()

        await page.tab.route("**/past?event=*", hold)
        await page.tab.locator("#history").click()
        async with asyncio.timeout(PATIENCE):
            await asked.wait()
            await page.tab.get_by_role("button", name="Back to now").click()
            async with page.tab.expect_request_finished():
                go_on.set()
            await answered.wait()
        await at_rest(page.tab.locator("body"))
        assert await page.tab.locator("#history").get_attribute("aria-expanded") == "false"
        await page.editor.focus()
        await page.type("!")
        await page.until_text("words!")


class TestRights:
    async def test_a_token_in_the_address(self, engine: Browser, tmp_path: Path) -> None:
        folder = tmp_path / "documents"
        async with embedded(engine, application(folder, authenticate=Token("s3cret/&")), folder) as site:
            site.expected.append("status of 403|response code: 403")
            ann, eve = await site.person("ann"), await site.person("eve")
            page = await eve.go(site.server.url)
            await said(page, "#status", "You may not see this yet")
            page = await eve.go(site.server.url_of("x"))
            await said(page, "#notice", "You may not open this document")
            page = await ann.go(f"{site.server.url}?token=s3cret%2F%26")
            assert await page.tab.evaluate("location.pathname + location.search") == "/"
            await said(page, "#status", "^0 documents$")
            page = await ann.open("x")
            await page.type("for those who know")
            await page.until_status(SAVED)
            assert "s3cret" not in await page.tab.evaluate("document.cookie + location.href")

    async def test_readers_read(self, engine: Browser, tmp_path: Path) -> None:
        def ask(_: str, request: web.Request) -> Permission:
            return Permission("x", write="Writer" in request.headers)

        folder = tmp_path / "documents"
        async with embedded(engine, application(folder, authenticate=ask), folder) as site:
            writer = await (await site.person("w", extra_http_headers={"Writer": "1"})).open("x")
            await writer.type("to be read")
            reader = await (await site.person("r")).open("x")
            await reader.until_status("^You can read this, not change it$")
            await reader.type("EVIL")
            await reader.press("Backspace", "Control+z")
            await writer.type("!")
            await reader.until_text("to be read!")
            site.expected.append("status of 404|WebSocket connection to .* failed")
            missing = await (await site.person("r2")).go(site.server.url_of("nothing"))
            await said(missing, "#notice", "There is no document of this name")


class TestBindings:
    """The examples for pages of one's own."""

    @pytest.fixture
    def example(self, tmp_path: Path) -> web.Application:
        path = Path(__file__).resolve().parents[1] / "examples" / "browser" / "serve.py"
        spec = importlib.util.spec_from_file_location("browser_example", path)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        (tmp_path / "documents").mkdir()
        app: web.Application = module.make_app(tmp_path / "documents")
        return app

    @staticmethod
    async def box(person: Person, site: Site) -> tuple[Page, Callable[[], Awaitable[str]]]:
        site.expected.append("favicon")
        page = await person.go(f"{site.server.url}textarea.html")
        area = page.tab.locator("textarea")
        # What is typed before it is bound would be lost.
        await page.tab.locator("textarea:enabled").wait_for()
        await area.focus()
        return page, area.input_value

    async def test_what_is_typed_in_one_go_is_one_group(
        self, engine: Browser, tmp_path: Path, example: web.Application
    ) -> None:
        """In a textarea, until its caret is moved; in the page's editor a test of live editing sees to it."""
        async with embedded(engine, example, tmp_path) as site:
            page, value = await self.box(await site.person("ann"), site)
            doc = Document(agent="program")
            linked = connect(f"{site.server.url}documents/notes", doc)
            assert isinstance(linked, Link)

            async def until_state(text: str, heads: int) -> None:
                async def there() -> bool:
                    return await value() == doc.content == text and len(doc.version) == heads

                await until(there, f"{doc.content!r} at {doc.version}, not {text!r}")

            async with linked:
                await page.type("one")
                await until_state("one", 1)
                doc.insert(0, "> ")
                await until_state("> one", 1)
                await page.type("!")
                await until_state("> one!", 2)
                # As fast as can be: the browser tells of the selection once, and it is where it was.
                await page.tab.evaluate(
                    """() => {
                        const area = document.querySelector("textarea");
                        for (const key of ["ArrowLeft", "ArrowRight"])
                            area.dispatchEvent(new KeyboardEvent("keydown", { key }));
                    }"""
                )
                await page.type("!")
                await until_state("> one!!", 1)
                doc.insert(0, ">")
                await until_state(">> one!!", 1)
                await page.type("!")
                await until_state(">> one!!!", 2)
                # A click moves the caret, even to where it is.
                await page.tab.locator("textarea").click()
                await page.type("!")
                await until_state(">> one!!!!", 1)

    async def test_both(self, engine: Browser, tmp_path: Path, example: web.Application) -> None:
        async with embedded(engine, example, tmp_path) as site:
            one, value = await self.box(await site.person("ann"), site)
            # What is undone at once depends on how long ago it was typed.
            await one.tab.evaluate("() => { window.passed = 0; performance.now = () => window.passed; }")
            two = await (await site.person("bob")).go(f"{site.server.url}codemirror.html")
            await said(two, "#saved", "^Saved$")
            await two.editor.focus()
            await two.paste("👩 one\ntwo")

            async def until_value(wanted: str) -> None:
                async def there() -> bool:
                    return await value() == wanted

                try:
                    await until(there, "the textarea has another text")
                except AssertionError as error:
                    raise AssertionError(f"{error}: {await value()!r}, not {wanted!r}") from None

            async def content(wanted: str) -> None:
                text = ""

                async def there() -> bool:
                    nonlocal text
                    text = "\n".join(await two.tab.locator(".cm-line").all_inner_texts())
                    return text.removesuffix("\n") == wanted

                try:
                    await until(there, "the editor has another text")
                except AssertionError as error:
                    raise AssertionError(f"{error}: {text!r}, not {wanted!r}") from None

            await until_value("👩 one\ntwo")
            await one.press("Control+Home", "ArrowRight")
            await one.type("!")
            await content("👩! one\ntwo")
            # Somebody types before the caret: it stays between the same letters.
            await two.press("Control+Home")
            await two.paste("so: ")
            await until_value("so: 👩! one\ntwo")
            await one.type("?")
            await content("so: 👩!? one\ntwo")
            # Each undoes what is theirs.
            await two.press("Control+z")
            await until_value("👩!? one\ntwo")
            await one.tab.evaluate("passed += 1000")
            await one.type("x")
            await one.press("Control+z")
            await content("👩!? one\ntwo")
            await one.press("Control+z")
            await content("👩 one\ntwo")
            await one.press("Control+y")
            await content("👩!? one\ntwo")
            await one.press("Control+a")
            await one.paste("all 👩‍🚀 new")
            await content("all 👩‍🚀 new")
            await one.press("Backspace", "Backspace")
            await content("all 👩‍🚀 n")
            await until_value("all 👩‍🚀 n")
