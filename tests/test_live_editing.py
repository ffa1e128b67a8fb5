"""People who write together, each in a browser: what they see, what is kept, and what the page says of it."""

from __future__ import annotations

import asyncio
import re
from functools import partial
from itertools import count
from pathlib import Path
from random import Random

import pytest
from browser import Page, Site, same_text, until, until_matching
from serving import PATIENCE, link
from test_traces import trace

from egwalker import Document
from egwalker.formats import load, save

pytestmark = pytest.mark.asyncio(loop_scope="session")

SAVED = r"(?i)^all changes saved$"
OFFLINE = r"(?i)offline"
SAYS_SAVED = r"(?i)all changes saved"
"""Said, with or without a connection, when the server has all that was typed here."""


def words_of(number: int, amount: int) -> str:
    """Words that nobody else types."""
    return "".join([f"{chr(97 + number) * 3}{word}😀{chr(65 + number)} " for word in range(amount)])


async def all_saved(site: Site, document: str, *pages: Page) -> str:
    """Wait until all pages have one text and say that it is saved; it is what the disk has."""
    text = await same_text(*pages)
    for page in pages:
        await page.until_status(SAVED)
    assert site.server.stored(document).content == text
    return text


async def start_with(site: Site, document: str, text: str) -> None:
    """A document that has a text before anybody comes."""
    doc = Document(agent="before")
    doc.insert(0, text)
    site.server.folder.mkdir(exist_ok=True)
    save(doc, site.server.folder / f"{document}.egw")


# --- at once ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("people", [2, 5])
async def test_typing_at_one_place(site: Site, people: int) -> None:
    """Everybody's caret is at the start of nothing: what each of them types stays in one piece."""
    pages = await site.couple(people, "notes")
    texts = [words_of(number, 24 // people) for number in range(people)]
    await asyncio.gather(*[page.type(text, 0.01) for page, text in zip(pages, texts, strict=True)])
    found = await all_saved(site, "notes", *pages)
    assert sorted(found) == sorted("".join(texts))
    for text in texts:
        assert text in found
    for page, text in zip(pages, texts, strict=True):
        at = found.index(text) + len(text)
        assert await page.caret() == len(found[:at].encode("utf-16-le")) // 2
    await pages[0].screenshot(f"{people}-at-one-place")


@pytest.mark.parametrize("people", [2, 5])
async def test_typing_at_different_places(site: Site, people: int) -> None:
    await start_with(site, "notes", "".join([f"{number}: 👩‍🚀.\n" for number in range(people)]))
    pages = await site.couple(people, "notes")
    texts = [words_of(number, 24 // people) for number in range(people)]
    for number, page in enumerate(pages):
        await page.press("Control+Home", *["ArrowDown"] * number, "End", "ArrowLeft")
    await asyncio.gather(*[page.type(text, 0.01) for page, text in zip(pages, texts, strict=True)])
    found = await all_saved(site, "notes", *pages)
    assert found == "".join([f"{number}: 👩‍🚀{text}.\n" for number, text in enumerate(texts)])
    await pages[0].screenshot(f"{people}-at-different-places")


async def test_typing_all_over_the_place(site: Site) -> None:
    """Five people put words between others' words, and delete some of their own: none is broken."""
    await start_with(site, "notes", "start " * 10)
    pages = await site.couple(5, "notes")
    kept: list[list[str]] = [[] for _ in pages]

    async def write(number: int, page: Page) -> None:
        rng = Random(number)
        for word in [f"{chr(97 + number) * 2}{at}é" for at in range(8)]:
            # Not behind a letter, as that may be half a word of somebody's.
            await page.go_behind_a_space(rng.random())
            await page.type(word + " ", 0.005)
            if rng.random() < 0.3:
                await page.press(*["Backspace"] * (len(word) + 1))
            else:
                kept[number].append(word)

    await asyncio.gather(*[write(number, page) for number, page in enumerate(pages)])
    found = await all_saved(site, "notes", *pages)
    assert sorted(found.split()) == sorted([*["start"] * 10, *[word for words in kept for word in words]])
    assert found.count(" ") == len(found.split())


async def test_carets_stay_where_they_are_in_the_text(site: Site) -> None:
    await start_with(site, "notes", "one 😀 two three")
    ann, bob = await site.couple(2, "notes")
    await ann.go_to(9)  # tw|o

    async def edit(at: int, keys: list[str], text: str, wanted: str, caret: int) -> None:
        await bob.go_to(at)
        await bob.press(*keys)
        await bob.type(text)
        for page in (ann, bob):
            await page.until_text(wanted)
        assert await ann.caret() == caret

    await edit(0, [], "👩 ", "👩 one 😀 two three", 12)
    await edit(15, [], "x", "👩 one 😀 two txhree", 12)
    await edit(12, [], "here", "👩 one 😀 twhereo txhree", 12)
    await edit(14, ["Backspace"] * 4, "", "👩 one 😀 reo txhree", 10)
    await ann.type("-")
    await bob.until_text("👩 one 😀 -reo txhree")
    # Undoing takes back what was done here, and nothing of others.
    await ann.press("Control+z")
    await bob.until_text("👩 one 😀 reo txhree")
    assert await same_text(ann, bob) == "👩 one 😀 reo txhree"


async def before_caret(page: Page) -> str:
    """What stands before the one caret of somebody else in the first line; `nobody` if there is none."""
    found: str = await page.tab.evaluate(
        """() => {
            const caret = document.querySelector(".cm-remote-caret");
            if (!caret) return "nobody";
            const range = new Range();
            range.setStart(document.querySelector(".cm-line"), 0);
            range.setEndBefore(caret);
            return range.toString();
        }"""
    )
    return found


async def until_selected(page: Page, text: str) -> None:
    """Wait until somebody else has selected that, in one line."""
    found = page.tab.locator(".cm-remote-selection")
    await until_matching(found.inner_text, f"^{re.escape(text)}$", "what is selected")


async def test_others_see_whose_caret_is_where(site: Site) -> None:
    await start_with(site, "notes", "one two three")
    ann, bob = await site.couple(2, "notes")
    await ann.go_to(4)
    await bob.go_to(0)
    for edits in range(3):
        # It may be where it was before ann moved it.
        await until_matching(partial(before_caret, bob), rf"^{'x' * edits}one $", "ann's caret")
        await bob.type("x")
    # Selections are seen, too.
    await ann.press("Shift+End")
    await until_selected(bob, "two three")
    await bob.screenshot("carets")
    await ann.close()
    await until(lambda: gone(bob, ".cm-remote-caret"), "who left is still shown")


async def test_carets_told_by_those_who_lack_what_was_typed_here(site: Site) -> None:
    """A position means the text of who tells it: what they do not know yet moves it here."""
    await start_with(site, "notes", "one 😀 two three")
    people = [await site.person(name) for name in ("ann", "bob")]
    wire = await people[1].wire()
    ann, bob = [await person.open("notes") for person in people]
    await ann.go_to(7)
    await until_matching(partial(before_caret, bob), "^one 😀 $", "ann's caret")
    wire.hold()
    await bob.go_to(0)
    await bob.type("xx")
    await bob.go_to(5)
    await bob.press("Shift+ArrowRight", "Shift+ArrowRight", "Delete")
    assert await bob.text() == "xxone two three"
    # Ann knows nothing of that.
    await ann.press("Shift+End")
    await until_selected(bob, "two three")
    await ann.go_to(1)
    await until_matching(partial(before_caret, bob), "^xxo$", "ann's caret")
    await ann.go_to(6)  # behind what bob has deleted
    await until_matching(partial(before_caret, bob), "^xxone$", "ann's caret")
    await ann.press("Control+End")
    await ann.type("!")
    await until_matching(partial(before_caret, bob), "three!$", "ann's caret")
    assert await ann.text() == "one 😀 two three!"
    wire.let_go()
    await same_text(ann, bob)
    await until_matching(partial(before_caret, bob), "three!$", "ann's caret")


async def gone(page: Page, selector: str) -> bool:
    return await page.tab.locator(selector).count() == 0


async def test_two_tabs_of_one_profile(site: Site) -> None:
    ann = await site.person("ann")
    first, second = [await ann.open("notes") for _ in range(2)]
    await asyncio.gather(first.type(words_of(0, 10), 0.005), second.type(words_of(1, 10), 0.005))
    found = await all_saved(site, "notes", first, second)
    assert words_of(0, 10) in found
    assert words_of(1, 10) in found


async def test_with_a_program(site: Site) -> None:
    """A replica in Python is one more at the table."""
    (page,) = await site.couple(1, "notes")
    doc = Document(agent="program")
    async with link(site.server.url_of("notes"), doc) as linked:
        async with asyncio.timeout(PATIENCE):
            await linked.synced()

        async def write() -> None:
            for word in range(60):
                doc.insert(len(doc), f"python{word} ")
                await asyncio.sleep(0.005)

        await asyncio.gather(write(), page.type(words_of(0, 15), 0.01))
        await page.until_status(SAVED)
        async with asyncio.timeout(PATIENCE):
            await linked.persisted()
        text = await page.until_text(lambda text: text == doc.content)
    assert words_of(0, 15) in text
    assert sorted(text.split()) == sorted([f"python{word}" for word in range(60)] + words_of(0, 15).split())


async def test_what_is_typed_in_one_go_is_one_group(site: Site) -> None:
    """Others' events are seen at once, and followed when the caret has been moved by key or mouse."""
    await start_with(site, "notes", "one two")
    (page,) = await site.couple(1, "notes")
    doc = Document(agent="program")
    async with link(site.server.url_of("notes"), doc) as linked:
        async with asyncio.timeout(PATIENCE):
            await linked.synced()
        await page.press("End")
        await page.type("!")
        await page.until_status(SAVED)
        doc.insert(0, "> ")
        await page.until_text("> one two!")
        await page.type("!")
        await page.until_status(SAVED)
        await until_version(doc, 2)
        await page.press("ArrowLeft", "ArrowRight")
        await page.type("!")
        await until_version(doc, 1)
        assert doc.content == "> one two!!!"
        doc.insert(0, ">")
        await page.until_text(">> one two!!!")
        await page.type("!")
        await until_version(doc, 2)
        # A click adopts, even one to where the caret is.
        await page.editor.click()
        await page.type("!")
        await until_version(doc, 1)
        assert doc.content == ">> one two!!!!!"


async def until_version(doc: Document, heads: int) -> None:
    async def there() -> bool:
        return len(doc.version) == heads

    await until(there, f"there are not {heads} heads: {doc.version}")


# --- without a connection -----------------------------------------------------------------------------------


async def test_offline_for_a_page_and_back(site: Site) -> None:
    """One goes offline, types a page, closes the tab, opens it again without a connection, and returns."""
    await start_with(site, "notes", "Beginning.\n\nEnd.")
    ann, bob = await site.couple(2, "notes")
    await ann.stays()
    await ann.person.offline()
    await ann.until_status(OFFLINE)
    await ann.press("Control+Home", "End")
    typed = "".join([f"\nLine {line}, typed on a train 🚆." for line in range(20)])
    await ann.type(typed)
    await ann.screenshot("offline")
    await bob.press("Control+End")
    await bob.type(" Bob was here.")
    await bob.until_status(SAVED)
    await ann.until_status(r"(?i)offline.*kept in this browser")
    await ann.close()
    assert "train" not in await bob.text()

    again = await ann.person.open("notes")
    assert await again.text() == f"Beginning.{typed}\n\nEnd."
    said = await again.until_status(OFFLINE)
    assert not re.search(SAYS_SAVED, said)
    await again.press("Control+End")
    await again.type(" (More.)")
    await again.until_status(r"(?i)offline.*kept in this browser")

    await ann.person.offline(False)
    found = await all_saved(site, "notes", again, bob)
    assert found.startswith(f"Beginning.{typed}\n\nEnd.")
    assert sorted(found) == sorted(f"Beginning.{typed}\n\nEnd. Bob was here. (More.)")
    for ends in (" Bob was here.", " (More.)"):
        assert ends in found


async def test_offline_and_back_in_another_tab(site: Site) -> None:
    """What was typed offline and left behind is delivered by the next tab that has a connection."""
    ann, bob = await site.couple(2, "notes")
    await ann.person.offline()
    await ann.until_status(OFFLINE)
    await ann.type("left behind")
    await ann.until_status(r"(?i)offline.*kept in this browser")
    await ann.close()
    await ann.person.offline(False)
    again = await ann.person.open("notes")
    await bob.until_text("left behind")
    assert await all_saved(site, "notes", again, bob) == "left behind"


async def test_a_page_that_was_never_there_says_so(site: Site) -> None:
    ann = await site.person("ann")
    await (await ann.open("one")).stays()
    await ann.offline()
    other = await ann.go(site.server.url_of("two"))
    await other.until_status(OFFLINE)
    assert await other.tab.locator(".cm-content[contenteditable=true]").count() == 0
    await ann.offline(False)
    await other.ready()
    await other.type("now")
    await other.until_status(SAVED)


async def test_a_server_that_is_killed(site: Site) -> None:
    """It is killed again and again while two people type, who go on; whatever they were told is true."""
    pages = await site.couple(2, "notes")
    done = asyncio.Event()
    typed: list[list[str]] = [[], []]
    claims: list[tuple[int, set[str]]] = []

    async def write(number: int, page: Page) -> None:
        for at in count():
            if done.is_set():
                return
            word = f"{'ab'[number]}{at}"
            await page.type(word + " ", 0.01)
            typed[number].append(word)
            # Who never pauses has always something that is not saved.
            if at % 10 == 9:
                await page.until_status(r"(?i)all changes saved|offline")

    async def listen(number: int, page: Page) -> None:
        """What was typed before the page says that all is saved must be."""
        while not done.is_set():
            words = set(typed[number])
            if re.search(SAYS_SAVED, await page.status()):
                claims.append((number, words))
            await asyncio.sleep(0.01)

    async def interrupt() -> None:
        rng = Random(5)
        for _ in range(3):
            claimed_before = len(claims)
            await until(partial(claimed_since, claimed_before), "nothing is ever saved")
            await asyncio.sleep(rng.random())
            await site.server.kill()
            content = site.server.stored("notes").content
            for number, claimed in claims:
                # Not words of the text: one of the other's may have begun right before.
                missing = {word for word in claimed if f"{word} " not in content}
                assert not missing, f"page {number} said that {missing} were saved: {content!r:.1000}"
            for page in pages:
                await page.until_status(OFFLINE)
            before = [len(words) for words in typed]
            await until(partial(grown, before), "nobody goes on")
            for page in pages:
                assert not re.search(SAYS_SAVED, await page.status())
            await site.server.start()
            for page in pages:
                await page.until_status(r"(?i)^(?!.*offline)")
        done.set()

    async def claimed_since(before: int) -> bool:
        return len({number for number, _ in claims[before:]}) == len(pages)

    async def grown(before: list[int]) -> bool:
        return all(len(words) > length for words, length in zip(typed, before, strict=True))

    jobs = [work(number, page) for number, page in enumerate(pages) for work in (write, listen)]
    await asyncio.gather(interrupt(), *jobs)
    found = await all_saved(site, "notes", *pages)
    assert sorted(found.split()) == sorted([*typed[0], *typed[1]])
    assert claims
    # A restart leaves all of it there, for somebody new, too.
    await site.server.stop()
    await site.server.start()
    (late,) = await site.couple(1, "notes")
    assert await same_text(late, *pages) == found


# --- hostile input ------------------------------------------------------------------------------------------

MARKUP = ":is(img:not(.cm-widgetBuffer), script, iframe, a, b)"
HOSTILE = [
    "<img src=x onerror=alert(1)>",
    "</textarea></script><script>alert(1)</script>",
    "\u202edesrever\u202c and \u2067isolated\u2069",
    "\x07bell\x1b[31mred\x7f\x85\u2028\u2029",
    "\ufeffbom\u200bzero\u200d\u2060width",
    "Z̸̡̛͉̘̩a̵lgo👩‍👩‍👧‍👦🏳️‍🌈",
    "${alert(1)} {{7*7}} %00 \\u0000 javascript:alert(1)",
]


async def test_hostile_texts(site: Site) -> None:
    ann, bob = await site.couple(2, "notes")
    for text in HOSTILE:
        await ann.paste(f"{text}\n")
    found = await all_saved(site, "notes", ann, bob)
    assert found == "".join([f"{text}\n" for text in HOSTILE])
    assert await bob.tab.locator(f".cm-content {MARKUP}").count() == 0
    # Half a character is nothing that a text can hold, and it breaks nothing.
    await ann.tab.evaluate("document.execCommand('insertText', false, 'a\\ud800b')")
    await ann.type("!")
    await bob.until_text(lambda text: text.endswith("!"))
    assert (await all_saved(site, "notes", ann, bob)).startswith(found)
    await bob.screenshot("hostile-texts")


@pytest.mark.parametrize(
    "name",
    ["<img src=x onerror=alert(1)>", "a&b=c?d#e%2f%00 +'\"", "עברית ותמונה", "😀 👩‍🚀 é", "con"],
)
async def test_hostile_names_of_documents(site: Site, name: str) -> None:
    (page,) = await site.couple(1, name)
    await page.type("hello")
    await page.until_status(SAVED)
    assert site.server.stored(name).content == "hello"
    assert await page.tab.locator("h1").inner_text() == name
    assert await page.tab.title() == name
    ann = await site.person("ann")
    listed = await ann.go(site.server.url)
    row = listed.tab.get_by_role("link", name=name, exact=False)
    await row.wait_for()
    await row.click()
    again = Page(ann, listed.tab)
    await again.ready()
    await again.until_text("hello")


@pytest.mark.parametrize("name", ["..x", "-", "a\u202eb", "x" * 201])
async def test_what_is_no_name(site: Site, name: str) -> None:
    ann = await site.person("ann")
    site.expected.append("status of 40[04]")
    page = await ann.go(site.server.url_of(name))
    assert "name" in await page.tab.locator("body").inner_text()
    assert list(site.server.folder.iterdir()) == []
    listed = await ann.go(site.server.url)
    await listed.tab.get_by_role("textbox").fill(name)
    await listed.press("Enter")
    await until(lambda: listed.tab.get_by_role("alert").inner_text(), "nothing is said")
    assert await listed.tab.evaluate("location.pathname") == "/"


async def test_hostile_people(site: Site) -> None:
    """Names, colours and carets are what others say they are, which is anything."""
    await start_with(site, "notes", "hello 😀")
    (page,) = await site.couple(1, "notes")
    states: list[object] = [
        {"name": "<img src=x onerror=alert(1)>", "color": "red;background:url(//x/)", "head": 1, "anchor": 1},
        {"name": "\u202egnp.exe" + "x" * 500, "color": "#00ff00", "head": 10**9, "anchor": -5},
        {"name": {"toString": 1}, "color": ["#000000"], "head": "0", "anchor": None},
        {"name": "", "head": 3.5, "anchor": 1e300},
        {"name": "\x00\x1b[0m", "color": "#FFFFFF", "head": 0, "anchor": 7},
        {"name": "half", "color": "#123456", "head": 7, "anchor": 6, "version": [["nobody", 5]]},
        {"name": "odd", "head": 2, "anchor": 2, "version": "x"},
        "a text",
        [1, 2],
        7,
    ]
    doc = Document(agent="mallory")
    async with link(site.server.url_of("notes"), doc) as linked:
        async with asyncio.timeout(PATIENCE):
            await linked.synced()
        for number, state in enumerate(states):
            linked.show(state, key=f"<b>{number}</b>\u202e")
        await until(lambda: page.tab.locator(".cm-remote-caret").count(), "nobody's caret is shown")
        await page.tab.locator("#here").click()
        await until(lambda: page.tab.locator("#names li").count(), "nobody is listed")
        names = await page.tab.locator("#names").inner_text()
        await page.screenshot("hostile-people")
        assert "\u202e" not in names
        assert await page.tab.locator(f":is(#names, .cm-content, #here) {MARKUP}").count() == 0
        await page.press("Escape")
        await page.editor.focus()
        await page.press("Control+End")
        await page.type("!")
        await page.until_status(SAVED)
        assert doc.content == "hello 😀!"
        listed = await page.person.go(site.server.url)
        await listed.tab.get_by_role("link").first.wait_for()
        await listed.screenshot("hostile-people-listed")
    assert await same_text(page) == "hello 😀!"


# --- the history --------------------------------------------------------------------------------------------


async def test_any_point_of_the_history(site: Site, traces_folder: Path) -> None:
    """194 authors: every point has its text, and says who wrote what."""
    doc = load(trace(traces_folder, "node_nodecc-raw"), agent="reader").document
    site.server.folder.mkdir(exist_ok=True)
    save(doc, site.server.folder / "node.egw")
    (page,) = await site.couple(1, "node")
    assert await page.text() == doc.content
    await page.tab.locator("#history").click()
    slider = page.tab.locator("#moment")
    await slider.wait_for()
    past = "#past-text .cm-content"
    kept = load(site.server.folder / "node.egw").document
    for share in (1.0, 0.5, 0.03, 0.77):
        event = int(kept.events * share)
        await slider.evaluate(
            """(slider, event) => {
                slider.value = String(event);
                slider.dispatchEvent(new Event("input", { bubbles: true }));
            }""",
            event,
        )
        version = kept.version_at(event)
        lines = kept.checkout(version).split("\n")[:5]

        async def there(lines: list[str] = lines) -> bool:
            shown = await page.tab.locator(f"{past} .cm-line").all_inner_texts()
            return [line.strip("\n") for line in shown[:5]] == lines

        await until(there, f"event {event} does not show its text")
        shares: dict[str, int] = {}
        for agent, start, end in kept.blame(version):
            shares[agent] = shares.get(agent, 0) + end - start
        most = max(shares, key=shares.__getitem__)
        authors = await page.tab.locator("#authors").inner_text()
        assert most in authors.splitlines()[0]
        await page.screenshot(f"history-{share}")
    # With the keyboard alone, and back.
    await slider.focus()
    await page.press("ArrowLeft")
    await page.press("Escape")
    await page.ready()
    await page.type("x")
    await page.until_status(SAVED)


# --- for everybody ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("scheme", "size"), [("light", (1280, 800)), ("dark", (360, 640))])
async def test_no_barriers(site: Site, scheme: str, size: tuple[int, int]) -> None:
    """Keyboards, screen readers, contrast, small screens: as far as a program can tell."""
    await start_with(site, "A document with quite a long name", "Words. " * 300 + "W" * 300)
    options = {
        "color_scheme": scheme,
        "viewport": {"width": size[0], "height": size[1]},
        "has_touch": size[0] < 500,
        "is_mobile": size[0] < 500,
    }
    ann, bob = await site.person("ann", **options), await site.person("bob")
    page = await ann.open("A document with quite a long name")
    other = await bob.open("A document with quite a long name")
    await other.press("ArrowRight")
    await page.tab.locator(".cm-remote-caret").wait_for()
    listed = await ann.go(site.server.url)
    await listed.tab.get_by_role("link").first.wait_for()
    for shown, name in ((listed, "list"), (page, "editor")):
        await check(shown, f"{name}-{scheme}-{size[0]}")
    await page.tab.bring_to_front()
    await page.tab.locator("#here").click()
    await check(page, f"people-{scheme}-{size[0]}")
    await page.press("Escape")
    await page.tab.locator("#history").click()
    await page.tab.locator("#moment").wait_for()
    await check(page, f"history-{scheme}-{size[0]}")


async def check(page: Page, name: str) -> None:
    await page.screenshot(name)
    assert await page.barriers() == []
    wide = "document.documentElement.scrollWidth > document.documentElement.clientWidth"
    assert not await page.tab.evaluate(wide), "there is more beside the screen"


async def test_with_the_keyboard_alone(site: Site) -> None:
    """From the list into a new document, there and back."""
    ann = await site.person("ann")
    page = await ann.go(site.server.url)
    await page.tab.get_by_role("textbox").wait_for()
    await page.press("Tab")
    await page.type("shopping")
    await page.press("Enter")
    await page.tab.wait_for_url("**/shopping")
    await page.ready()
    await page.type("bread")
    await page.until_status(SAVED)
    await page.press("Escape", "Shift+Tab", "Shift+Tab", "Shift+Tab")
    await page.press("Enter")
    await page.tab.wait_for_url(site.server.url)
    await page.tab.get_by_role("link", name="shopping").wait_for()
