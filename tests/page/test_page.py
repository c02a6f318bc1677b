"""The page in a real browser shows what the command prints, at every moment."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Page

from docker_data import unpack
from eventstore import ImageStore
from eventstore.cli.main import run
from making import config
from page_histories import STATES, expected_at, live_at_random
from page_types import Shown

ROWS = """() => {
  const tree = document.getElementById("tree"), seen = new Map();
  for (let top = 0; ; top += 200) {
    tree.scrollTop = top;
    page.tree.draw();
    for (const row of tree.querySelectorAll(".row")) {
      const names = [...row.querySelectorAll(".name")].map((name) => name.textContent);
      seen.set(Number(row.dataset.at), ["sha256:" + row.dataset.id, row.ariaLevel, names]);
    }
    if (top >= tree.scrollHeight) break;
  }
  tree.scrollTop = 0;
  return [...seen.keys()].sort((a, b) => a - b).map((at) => seen.get(at));
}"""


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Sync three moments of a real host, and return the store."""
    folder = tmp_path_factory.mktemp("host")
    for name in ("host-a-1", "host-a-2", "host-a-3"):
        arguments = ["-s", str(folder / "store"), "sync", str(unpack(name, folder))]
        assert run([*arguments, "--actor", "root@host-a"]) == 0
    return folder / "store"


def drag(page: Page, position: int) -> None:
    """Move the slider, as a hand does."""
    page.locator("#moment").fill(str(position))
    page.wait_for_function(
        "at => document.getElementById('now').textContent.startsWith('@' + at + ',')", arg=position
    )


def listed(store: Path, *arguments: str, capsys: pytest.CaptureFixture[str]) -> list[Any]:
    """Return what a listing of the command prints as JSON."""
    capsys.readouterr()
    assert run(["-s", str(store), *arguments, "--json"]) == 0
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def in_row(found: dict[str, Any], level: int = 1) -> list[Any]:
    """Return what a row of the page must show of an image that was listed."""
    return [found["id"], str(level), sorted(name for name in found["names"] if "@" not in name)]


def test_the_slider_shows_what_ls_and_tree_print_at_that_moment(
    host: Path, opened: Shown, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Rows are compared as they stand in the document, all that scrolling brings up."""
    assert run(["-s", str(host), "report", str(tmp_path / "page.html")]) == 0
    page = opened((tmp_path / "page.html").as_uri())
    last = page.evaluate("page.history.last")
    for position in (last, 241, 271, 260, 100, 1, 0, 413):
        drag(page, position)
        at = f"@{position}"
        tree = listed(host, "tree", "--at", at, capsys=capsys)
        page.select_option("#show", "tree")
        assert page.evaluate(ROWS) == [in_row(found, found["depth"] + 1) for found in tree]
        for show, options in (("heads", []), ("all", ["--all"])):
            page.select_option("#show", show)
            expected = [
                in_row(one) for one in listed(host, "ls", *options, "--at", at, capsys=capsys)
            ]
            assert page.evaluate(ROWS) == expected
        assert f"{len(listed(host, 'ls', '--all', '--at', at, capsys=capsys))} image" in (
            page.inner_text("#now")
        )


@pytest.mark.parametrize("seed", range(6))
def test_the_page_folds_as_the_store_does(store: ImageStore, shown: Shown, seed: int) -> None:
    """Every position of a random history, in any order, from the beginning or from later."""
    choose = random.Random(seed)
    live_at_random(store, choose)
    if seed % 2:
        store.compact(position=store.position // 3, reason="a test")
    since = store.horizon.through if seed < 4 else store.position // 2
    page = shown(store, since=since)
    page.evaluate(f"page.history.interval = {choose.choice((1, 3, 1000))}")
    positions = [*range(since, store.position + 1)]
    positions += choose.sample(positions, len(positions))
    assert page.evaluate(STATES, positions) == [expected_at(store, one) for one in positions]


def test_an_image_shows_its_story_and_leads_to_its_moments(
    host: Path, opened: Shown, tmp_path: Path
) -> None:
    """The records are those of `log IMAGE`, with what others did to it."""
    with ImageStore.open(host, read_only=True, create=False) as store:
        gone = {one.image_id for one in store.records() if one.image_id not in store}
        image = max(sorted(gone), key=lambda one: len(list(store.story(one))))
        story = [record.position for record in store.story(image, reverse=True)]
        first = story[-1]
    assert run(["-s", str(host), "report", str(tmp_path / "page.html")]) == 0
    page = opened((tmp_path / "page.html").as_uri())
    page.fill("#term", image[7:20])
    assert page.inner_text("#found").startswith("0 images found at this moment; 1 not there now:")
    page.click("#found button")
    assert "It is not there at @413." in page.inner_text("#image")
    shown_at = page.locator("#image .records .link:not(.id)").all_inner_texts()
    assert shown_at == [f"@{position}" for position in story]
    page.locator("#image .records .link:not(.id)").last.click()
    page.wait_for_function(
        f"() => document.getElementById('now').textContent.startsWith('@{first},')"
    )
    assert "It is not there" not in page.inner_text("#image")
    assert page.inner_text("#found") == "1 image found at this moment"
    later = page.locator("#image .records li", has_text="later").locator(".link:not(.id)")
    assert later.all_inner_texts() == [f"@{position}" for position in story if position > first]
    page.wait_for_function(f"() => location.hash === '#@{first}/{image[7:]}'")
    page.reload()
    assert page.inner_text("#now").startswith(f"@{first},")
    assert image in page.inner_text("#image")


def test_a_link_to_an_image_shows_where_it_is(host: Path, opened: Shown, tmp_path: Path) -> None:
    """It is chosen, and in sight, however far down the list."""
    assert run(["-s", str(host), "report", str(tmp_path / "page.html")]) == 0
    page = opened((tmp_path / "page.html").as_uri())
    rows = page.evaluate("page.tree.rows.map((row) => page.history.id[row.image])")
    page = opened(f"{(tmp_path / 'page.html').as_uri()}#@413/{rows[-1]}")
    chosen = page.locator(".row[aria-selected=true]")
    assert chosen.get_attribute("data-id") == rows[-1]
    tree, row = page.locator("#tree").bounding_box(), chosen.bounding_box()
    assert tree is not None
    assert row is not None
    assert tree["y"] <= row["y"] <= tree["y"] + tree["height"] - row["height"]
    assert rows[-1] in page.inner_text("#image")


def test_what_changed_is_what_diff_prints(
    host: Path, opened: Shown, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Between any two moments, of which one is marked."""
    assert run(["-s", str(host), "report", str(tmp_path / "page.html")]) == 0
    page = opened((tmp_path / "page.html").as_uri())
    for before, after in ((241, 413), (271, 241), (0, 241), (100, 101)):
        drag(page, before)
        page.click("#mark")
        drag(page, after)
        (found,) = listed(host, "diff", f"@{before}", f"@{after}", capsys=capsys)
        counts = [len(found[part]) for part in ("created", "deleted", "changed")]
        assert page.inner_text("#changes .summary").split(";")[0] == (
            f"@{before} to @{after}: {counts[0]} created, {counts[1]} deleted, {counts[2]} changed"
        )
        ids = page.evaluate(
            "() => { const {created, deleted, changed} = page.history.between("
            f"page.history.at({before}).copy(0, 0), page.history.at({after}));"
            "const id = (image) => 'sha256:' + page.history.id[image];"
            "return [created.map(id), deleted.map(id), changed.map(([image]) => id(image))]; }"
        )
        assert ids[0] == found["created"]
        assert ids[1] == found["deleted"]
        assert ids[2] == [change["id"] for change in found["changed"]]


def test_the_keys_reach_everything(host: Path, opened: Shown, tmp_path: Path) -> None:
    """Without a mouse: from control to control, along the slider, through the tree."""
    assert run(["-s", str(host), "report", str(tmp_path / "page.html")]) == 0
    page = opened((tmp_path / "page.html").as_uri())
    focused = "document.activeElement.id || document.activeElement.className"
    order = []
    for _ in range(14):
        page.keyboard.press("Tab")
        order.append(page.evaluate(focused))
    for control in ("skip", "zone", "moment", "first", "back", "jump-to", "show", "term", "tree"):
        assert control in order
    page.focus("#moment")
    page.keyboard.press("ArrowLeft")
    page.wait_for_function("() => document.getElementById('now').textContent.startsWith('@412,')")
    page.keyboard.press("Home")
    page.wait_for_function("() => document.getElementById('now').textContent.startsWith('@0,')")
    page.keyboard.press("End")
    page.wait_for_function("() => document.getElementById('now').textContent.startsWith('@413,')")
    page.focus("#tree")
    at = "page.tree.rows[page.tree.at]"
    page.keyboard.press("Home")
    page.keyboard.press("End")
    assert page.evaluate("page.tree.at") == page.evaluate("page.tree.rows.length") - 1
    page.evaluate(
        "page.tree.moveTo(page.tree.rows.findIndex((row) => row.isOpen && row.level === 1))"
    )
    rows = page.evaluate("page.tree.rows.length")
    page.keyboard.press("ArrowLeft")
    assert page.evaluate("page.tree.rows.length") < rows
    assert page.locator(".row.at").get_attribute("aria-expanded") == "false"
    page.keyboard.press("ArrowRight")
    assert page.evaluate("page.tree.rows.length") == rows
    page.keyboard.press("ArrowRight")
    assert page.evaluate(f"{at}.level") == 2
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("Enter")
    chosen = page.locator(".row[aria-selected=true]").get_attribute("data-id")
    assert chosen is not None
    assert chosen in page.inner_text("#image")


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390])
def test_axe_finds_nothing(
    host: Path, opened: Shown, tmp_path: Path, axe: str, scheme: str, width: int
) -> None:
    """Names, roles, contrast, order and more, on a screen and on a phone."""
    assert run(["-s", str(host), "report", str(tmp_path / "page.html")]) == 0
    page = opened(
        (tmp_path / "page.html").as_uri(),
        color_scheme=scheme,
        viewport={"width": width, "height": 844},
        bypass_csp=True,  # for axe, which is no part of the page
    )
    page.click(".row:nth-child(6)")
    page.fill("#term", "app")
    page.fill("#jump-to", "no moment")
    page.click("#jump button")
    assert page.inner_text("#jump-error") != ""
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    page.evaluate(axe)
    found = page.evaluate("axe.run()")
    assert len(found["passes"]) > 40
    assert [(one["id"], one["nodes"][0]["html"]) for one in found["violations"]] == []


HOSTILE = (
    "</script><script>document.title='taken'</script>",
    "<img src=x onerror=\"document.title='taken'\">",
    "\x1b[2Jcleared \u202eesrever",
    "'\"&<>%%DATA%%",
    "\u2028<!--",
)


def test_nothing_in_a_store_runs_or_fetches(tmp_path: Path, opened: Shown) -> None:
    """Reasons, actors, steps and titles of strangers are text, and stay so."""
    for number, evil in enumerate(HOSTILE):
        with ImageStore.open(tmp_path / "s", actor=evil) as store:
            step = {"created_by": evil, "empty_layer": True}
            raw = {"os": evil, "history": [step], "rootfs": {"type": "layers"}, "comment": evil}
            image = store.create(json.dumps(raw).encode(), reason=evil)
            store.tag(f"app:{number}", image)
    store_path, out = str(tmp_path / "s"), tmp_path / "page.html"
    for evil in HOSTILE:
        assert run(["-s", store_path, "report", str(out), "--force", "--title", evil]) == 0
        page = opened(out.as_uri())
        assert page.title() != "taken"
        for row in range(len(HOSTILE)):
            page.locator(f"[data-at='{row}']").click()
        text = page.inner_text("body")
        assert "taken" in text
        assert not {"\x1b", "\u202e", "\u2028"} & set(text)
        assert page.locator("script, img").count() == 2  # the page's own
        assert "unsafe" not in page.content().split("</head>")[0]


def test_an_empty_store_and_one_without_a_past_have_a_page(store: ImageStore, shown: Shown) -> None:
    """There is a moment to look at, however little happened."""
    page = shown(store)
    assert page.inner_text("#now") == "@0, empty, 0 images"
    store.create(config("a"))
    page = shown(store, since=1)
    assert "1 image" in page.inner_text("#now")
    assert "Nothing yet." in page.inner_text("#log")


def test_a_moment_can_be_written(host: Path, opened: Shown, tmp_path: Path) -> None:
    """As a position or as a time; what is neither is refused in words."""
    assert run(["-s", str(host), "report", str(tmp_path / "page.html")]) == 0
    page = opened((tmp_path / "page.html").as_uri())
    with ImageStore.open(host, read_only=True, create=False) as store:
        time = store.as_of(position=271).time
        assert time is not None
        later = store.position_at(time)
    for text, position in (("@100", 100), ("241", 241), ("2001-01-01", 0)):
        page.fill("#jump-to", text)
        page.keyboard.press("Enter")
        page.wait_for_function(
            "at => document.getElementById('now').textContent.startsWith('@' + at + ',')",
            arg=position,
        )
    page.fill("#jump-to", time.strftime("%Y-%m-%dT%H:%M:%SZ"))
    page.keyboard.press("Enter")
    page.wait_for_function("() => document.getElementById('jump-error').textContent === ''")
    assert page.evaluate("page.position") <= later
    for text in ("@414", "yesterday", "2026-13-45", "2026-02-29", "2026-04-31 10:00", "-1", ""):
        page.fill("#jump-to", text)
        page.keyboard.press("Enter")
        assert page.inner_text("#jump-error") != ""


def test_what_is_before_the_beginning_is_not_shown_as_it(
    store: ImageStore, clock: Any, shown: Shown
) -> None:
    """A page that begins later knows nothing of before, and says so."""
    for number in range(9):
        store.create(config(str(number)))
    page = shown(store, since=4)
    begin = f"{store.as_of(position=4).time:%Y-%m-%d %H:%M:%S}Z"
    for text in ("2001-01-01", "@3", "@10"):
        page.fill("#jump-to", text)
        page.keyboard.press("Enter")
        expected = f"There are moments from @4, {begin}, to @9."
        assert page.inner_text("#jump-error") == expected
        assert page.inner_text("#now").startswith("@9,")
    page.fill("#jump-to", begin)
    page.keyboard.press("Enter")
    page.wait_for_function("() => document.getElementById('now').textContent.startsWith('@4,')")
    assert page.inner_text("#jump-error") == ""
    for link, position in (("@3", 4), ("@12345", 9)):
        page.evaluate("hash => { location.hash = hash; }", link)
        page.wait_for_function(
            "at => document.getElementById('now').textContent.startsWith('@' + at + ',')",
            arg=position,
        )
        assert page.inner_text("#jump-error").startswith(f"There is no {link}. ")


def test_the_focus_stays_where_it_was(host: Path, opened: Shown, tmp_path: Path) -> None:
    """Lists are made anew with each move; who goes by the keys goes on from the same link."""
    assert run(["-s", str(host), "report", str(tmp_path / "page.html")]) == 0
    page = opened((tmp_path / "page.html").as_uri())
    focused = "document.activeElement.textContent"
    for place in ("#log", "#changes"):
        page.locator(f"{place} button.id").nth(5).focus()
        before = page.evaluate(focused)
        page.keyboard.press("Enter")
        assert page.evaluate(focused) == before
        assert page.locator(place).evaluate("root => root.contains(document.activeElement)")
    page.locator("#log .records .link:not(.id)").nth(7).focus()
    page.keyboard.press("Enter")
    page.wait_for_function("() => page.asked === undefined")
    assert page.evaluate(focused) == "@406"
    assert page.inner_text("#now").startswith("@406,")


def test_what_is_chosen_comes_into_sight_on_a_phone(
    host: Path, opened: Shown, tmp_path: Path
) -> None:
    """There the image stands far from the lists that lead to it."""
    assert run(["-s", str(host), "report", str(tmp_path / "page.html")]) == 0
    viewport = {"width": 390, "height": 640}
    page = opened((tmp_path / "page.html").as_uri(), viewport=viewport)
    page.locator("#log button.id").first.click()
    top = page.locator("#image .whole").bounding_box()
    assert top is not None
    assert 0 <= top["y"] < 640


def test_a_search_finds_what_is_gone_by_any_name_that_it_had(
    store: ImageStore, shown: Shown
) -> None:
    """Also by one that it had before the page begins, or that came to another since."""
    first, second, other = (store.create(config(name)) for name in "abc")
    store.tag("early:1", first)
    store.tag("late:1", other)
    since = store.position
    store.tag("late:2", second)
    store.tag("late:2", other)
    for image in (first, second):
        store.delete(image)
    page = shown(store, since=since)
    for term, found in (("early", {first}), ("late:2", {second}), ("none", set())):
        page.fill("#term", term)
        ids = set(
            page.evaluate("page.goneFound().map((image) => 'sha256:' + page.history.id[image])")
        )
        assert ids == found
        assert page.locator("#gone button").count() == len(found)
    store.set_parent(store.create(config("d")), other)
    page = shown(store)
    page.fill("#term", "late")
    assert page.inner_text("#count") == "1 image found at this moment; 1 not there now:"
    page.select_option("#show", "heads")
    assert page.inner_text("#count").startswith("0 images without children found at this moment")
    page.fill("#term", "")
    assert page.inner_text("#found").strip() == ""


def test_changes_within_a_second_are_told_apart(store: ImageStore, shown: Shown) -> None:
    """The same time twice would look as if nothing had changed."""
    image = store.create(config("a"))
    for instant in (1_500_000, 2_500_000, 3_000_000_000):
        store.set_last_updated(image, instant)
    page = shown(store)
    expected = ["again within 1970-01-01 00:00:00Z", "1970-01-01 00:00:00Z → 1970-01-01 00:00:03Z"]
    for position, text in zip((3, 4), expected, strict=True):
        drag(page, position)
        assert page.inner_text("#changes .changed .detail") == f"last updated {text}"


def test_names_that_moved_are_changes(store: ImageStore, shown: Shown) -> None:
    """Given, taken, taken away; but not what came or went with its image, which is said there."""
    first, second, third = (store.create(config(name)) for name in "abc")
    for name in ("moved", "taken", "gone", "stays"):
        store.tag(name, first)
    store.tag("lost", third)
    start = store.position
    for name in ("moved", "given"):
        store.tag(name, second)
    store.untag("taken")
    store.tag("fresh", store.create(config("d")))
    store.delete(third)
    store.tag("gone", second)
    store.delete(second)
    store.create(config("b"))
    end = store.position
    store.tag("moved", second)
    page = shown(store)
    ids = {first: "a", second: "b", third: "c"}
    for before, after, expected in (
        (start, end - 2, ["given - b", "gone a b", "moved a b", "taken a -"]),
        (end - 2, start, ["given b -", "gone b a", "moved b a", "taken - a"]),
        (start, end, ["gone a -", "moved a -", "taken a -"]),
        (end, end + 1, ["moved - b"]),
        (start, start, []),
    ):
        drag(page, before)
        page.click("#mark")
        drag(page, after)
        moved = page.evaluate(
            "page.history.between(page.history.at(page.marked).copy(0, 0),"
            "page.history.at(page.position)).named.map(([name, ...images]) => [name,"
            "...images.map((image) => image < 0 ? null : 'sha256:' + page.history.id[image])])"
        )
        assert [
            " ".join([name.removesuffix(":latest"), *(ids.get(image, "-") for image in images)])
            for name, *images in moved
        ] == expected
        shown_rows = page.locator("#changes .moved .name").all_inner_texts()
        assert [name.removesuffix(":latest") for name in shown_rows] == [
            text.split()[0] for text in expected
        ]
        assert ("moved" in page.inner_text("#changes .summary")) == bool(expected)


def test_what_got_into_the_page_would_not_run(store: ImageStore, shown: Shown) -> None:
    """Should a mistake let markup in, the policy stops it: no script, no style, no request."""
    store.create(config("a"))
    page = shown(store, is_cut_off=True)  # the browser says what it refused
    asked: list[str] = []
    page.on("requestfinished", lambda request: asked.append(request.url))
    page.evaluate(
        """async () => {
          document.body.insertAdjacentHTML("beforeend", `
            <img src="http://127.0.0.1:9/i" onerror="window.ran = 1">
            <iframe srcdoc="<script>parent.ran = 1</script>"></iframe>
            <div id="styled" style="color: rgb(1, 2, 3)"></div><style>#now { color: red }</style>
            <a id="link" href="javascript:window.ran = 1">a</a>
            <form action="http://127.0.0.1:9/f"><button id="send">b</button></form>`);
          for (const attributes of [{ textContent: "window.ran = 1" }, { src: "data:,ran=1" }]) {
            document.body.append(Object.assign(document.createElement("script"), attributes));
          }
          document.getElementById("link").click();
          document.getElementById("send").click();
          await fetch("http://127.0.0.1:9/").catch(() => undefined);
          await new Promise((resolve) => setTimeout(resolve, 200));
        }"""
    )
    assert page.evaluate("window.ran") is None
    assert page.evaluate("getComputedStyle(styled).color") != "rgb(1, 2, 3)"
    assert (
        page.evaluate("getComputedStyle(document.getElementById('now')).color") != "rgb(255, 0, 0)"
    )
    assert page.url.startswith("file:")
    assert asked == []


def test_images_without_a_config_are_listed_as_ls_lists_them(
    store_path: Path, opened: Shown, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Last, behind those that do not say when they were made; with what became of the config."""
    with ImageStore.open(store_path, actor="a") as store:
        dated = '{"created": "2026-01-0%dT00:00:00Z", "rootfs": {"type": "layers"}}'
        images = [store.create((dated % day).encode()) for day in range(1, 6)]
        images += [store.create(config(str(number))) for number in range(20)]
        for image in images[::3]:
            store.redact(image, reason="a secret")
    assert run(["-s", str(store_path), "report", str(tmp_path / "page.html")]) == 0
    page = opened((tmp_path / "page.html").as_uri())
    page.select_option("#show", "all")
    expected = [in_row(one) for one in listed(store_path, "ls", "--all", capsys=capsys)]
    assert page.evaluate(ROWS) == expected
    page.locator(f"[data-id='{images[0][7:]}']").click()
    assert "a secret" in page.inner_text("#image dl")
