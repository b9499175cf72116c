"""The live page in a real browser, before a server that tells of planted runs."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from dashboard_world import HOSTILE, World, make_curve, needs_library, serve_world
from receivers import wait_until
from seen_text import READ_TEXT

from workbench.browser import find_chromium, open_browser

pytestmark = [
    needs_library,
    pytest.mark.allow_hosts(["127.0.0.1"]),
    pytest.mark.skipif(
        find_chromium() is None,
        reason="no Chromium to look at the page with; install one: apt-get install chromium",
    ),
]
SCREENS = [(360, "dark"), (360, "light"), (1280, "dark"), (1280, "light")]
VIEWS = ("#/", "#/compare?runs=4042,77ab", "#/run/4042", "#/health")
# Of each chart the pixels in a line's colour; grid and words are grey.
COUNT_INK = """() => [...document.querySelectorAll(".plot canvas")].map(canvas => {
  const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height)
  let inked = 0
  for (let n = 0; n < data.length; n += 4) {
    const parts = [data[n], data[n + 1], data[n + 2]]
    inked += data[n + 3] > 60 && Math.max(...parts) - Math.min(...parts) > 70
  }
  return inked
})"""
PICTURES = """() => [...document.querySelectorAll(".plot canvas")].map(one => one.toDataURL())"""
SMALL_TARGETS = """() => [...document.querySelectorAll(
  "button, summary, nav a, .button, .card h2 a, label:has(input), .names a"
)].filter(one => one.checkVisibility()).map(one => [one.textContent, one.getBoundingClientRect()])
  .filter(([text, box]) => box.height < 39.5 || box.width < 39.5).map(([text]) => text)"""
# The page asks at once when it is looked at again.
ASK_NOW = "document.dispatchEvent(new Event('visibilitychange'))"
WATCH_POLICY = (
    "document.addEventListener('securitypolicyviolation', e => console.log(e.blockedURI))"
)


class Tab:
    """A tab before a world; what the page complained of is kept in `unwanted`."""

    def __init__(self, tab: Any, address: str) -> None:
        self.tab, self.address, self.unwanted = tab, address, list[str]()
        tab.set_default_timeout(30_000)  # ms; only a broken page is waited for
        tab.add_init_script(WATCH_POLICY)
        tab.on("console", lambda message: self.unwanted.append(message.text))
        tab.on("pageerror", lambda error: self.unwanted.append(str(error)))
        tab.on("dialog", lambda dialog: (self.unwanted.append(dialog.message), dialog.dismiss()))

    def open(self, view: str, width: int = 360, scheme: str = "dark") -> Any:
        """Opens a view anew, and waits until it has been drawn."""
        self.tab.set_viewport_size({"width": width, "height": 800})
        self.tab.emulate_media(color_scheme=scheme)
        self.tab.goto("about:blank")
        self.tab.goto(f"{self.address}/{view}")
        self.tab.wait_for_selector(".pulse[data-is=live]")
        return self.tab


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with open_browser() as opened:
        yield opened


@pytest.fixture(scope="module")
def served() -> Iterator[tuple[World, str]]:
    """A world and its address."""
    world = World()
    with serve_world(world) as address:
        yield world, address


@pytest.fixture
def world(served: tuple[World, str]) -> World:
    """Two runs: one that goes well, and one by relay that will not be done in time."""
    world = served[0]
    world.clear()
    world.plant("4042")
    late: dict[str, Any] = {"verdict": "red", "missing": 83, "source": "relay", "quiet": True}
    late |= {"verdict_words": "2 of 5 folds will not fit", "title": "convnext-tiny, 288 px"}
    world.plant("77ab", lift=0.02, **late)
    return world


@pytest.fixture
def page(browser: Any, world: World, served: tuple[World, str]) -> Iterator[Tab]:
    one = Tab(browser.new_page(), served[1])
    yield one
    one.tab.close()
    assert one.unwanted == []


def plant_hostile(world: World) -> None:
    """Runs whose every text is an attack or an accident."""
    world.names = HOSTILE
    for place, name in enumerate(HOSTILE):
        texts = dict.fromkeys(("title", "name", "machine", "note", "step", "verdict_words"), name)
        world.plant(f"h{place}", metric=name, **texts)
    world.plant("4042", title=HOSTILE[0], name=HOSTILE[4], note=HOSTILE[1])
    world.relay = {"topic_host": HOSTILE[0], "words": HOSTILE[1], "connected": False, "last": None}
    world.relay |= {"messages": 3, "rejected": 1, "sent_today": 112, "quota": 250}


@pytest.mark.parametrize(("width", "scheme"), SCREENS)
def test_every_view_is_legible_fits_the_screen_and_draws(
    width: int, scheme: str, page: Tab, world: World
):
    plant_hostile(world)
    drawn = []
    for view in VIEWS:
        tab = page.open(view, width, scheme)
        tab.evaluate("for (const one of document.querySelectorAll('details')) one.open = true")
        assert tab.evaluate("document.documentElement.scrollWidth") <= width
        texts = tab.evaluate(READ_TEXT, "header *, main *")
        assert len(texts) > 20
        assert [one for one in texts if one[1] < 12] == []
        assert [one for one in texts if one[2] < 4.5] == []
        assert tab.evaluate(SMALL_TARGETS) == []
        drawn += tab.evaluate(COUNT_INK)
    assert len(drawn) == 2 + 2 * 3 + 4
    assert min(drawn) > 100


def test_no_name_becomes_code_or_turns_the_text_around(page: Tab, world: World):
    plant_hostile(world)
    for view in ("#/", "#/compare?runs=h0,h1,h2,h3,h4", "#/run/h0", "#/health"):
        tab = page.open(view)
        content = tab.content()
        assert "\u202e" not in content
        assert "\u2066" not in content
        assert "W" * 1000 not in content
        assert tab.locator("main script, main img[onerror], a[href^=javascript]").count() == 0
        assert tab.evaluate("[...document.images].every(one => one.src.includes('/image/aa'))")
        assert "<img src=x onerror=alert(1)>" in tab.locator("main").inner_text()
    assert tab.evaluate("document.documentElement.scrollWidth") <= 360


def test_an_address_of_a_picture_is_not_followed_unless_it_is_the_dashboards(page: Tab):
    tab = page.open("#/run/4042")
    assert tab.locator(".images img").count() == 7
    assert tab.locator(".images .lost").count() == 1  # of javascript:
    assert tab.evaluate(
        "Promise.all([...document.images].map(one => (one.loading = 'eager', one.decode())))"
    )


def test_cards_tell_state_score_time_and_what_is_missing(page: Tab, world: World):
    world.plant("old", seen=world.now - 200, verdict="amber", verdict_words="just so")
    over = {"state": "finished", "deadline": None, "eta": None, "done": 1}
    world.plant("done", **over, result={"metric": "macro_f1", "value": 0.9, "interval": [0.8, 1.0]})
    cards = page.open("#/").locator(".card")
    states = cards.locator(".state").all_inner_texts()
    assert sorted(states[:3]) == ["running", "running", "stale"]
    assert states[3] == "finished"
    late = cards.filter(has_text="convnext-tiny")
    assert late.locator("[data-is=red] .verdict").inner_text() == "2 of 5 folds will not fit"
    assert "83 events missing; make pull fetches them" in late.inner_text()
    fine = cards.filter(has_text="run-4042").inner_text().replace("\u00a0", " ")
    for words in ("0.9123", "best 0.9131 in fold 1, epoch 6", "fold 2, epoch 7 of 12", "3 s ago"):
        assert words in fine
    assert "macro f1, out of fold" in cards.filter(has_text="run-done").inner_text()
    assert page.tab.locator(".spark polyline").first.get_attribute("points").count(",") == 7


def test_a_run_that_is_quiet_by_nature_is_stale_later(page: Tab, world: World):
    for run in ("4042", "77ab"):
        world.cards[run]["seen"] = world.now - 600
    tab = page.open("#/")
    assert tab.locator(".card[data-is=stale] .name").all_inner_texts() == ["run-4042"]


def test_new_points_appear_by_themselves_and_nothing_that_was_chosen_is_lost(
    page: Tab, world: World
):
    tab = page.open("#/run/4042", 1280)
    tab.evaluate(
        "window.same = true; document.querySelector('.log li:last-child').className = 'it'"
    )
    plot = tab.locator(".u-over").first
    box = plot.bounding_box()
    tab.mouse.move(box["x"] + 100, box["y"] + 50)
    tab.mouse.down()
    tab.mouse.move(box["x"] + 300, box["y"] + 60)
    tab.mouse.up()
    tab.get_by_role("button", name="Whole range").first.wait_for()
    tab.mouse.move(5, 5)
    tab.evaluate("getSelection().selectAllChildren(document.querySelector('.it span'))")
    chosen = tab.evaluate("getSelection().toString()")
    tab.evaluate("scrollTo(0, 700)")
    zoom, before = tab.evaluate(PICTURES), tab.locator(".readout").all_inner_texts()

    world.details["4042"]["log"] = world.details["4042"]["log"] + [
        {"time": world.now, "text": "new"}
    ]
    start = world.curves["4042"][2]["time"][0] - 600
    world.curves["4042"][2] = make_curve("4042", 2, 8, start)
    world.bump("4042")
    tab.get_by_text("new", exact=True).wait_for()  # two seconds later, as the page asks by itself
    assert tab.locator(".readout").all_inner_texts() != before
    assert tab.locator(".log li").count() == 41
    assert tab.evaluate("[same, scrollY, getSelection().toString()]") == [True, 700, chosen]
    assert tab.evaluate(PICTURES) != zoom
    assert tab.get_by_role("button", name="Whole range").first.is_visible()
    tab.get_by_role("button", name="Whole range").first.click()
    tab.get_by_role("button", name="Whole range").first.wait_for(state="hidden")


def test_only_what_changed_is_asked_for_again(page: Tab, world: World):
    tab = page.open("#/compare?runs=4042,77ab")
    first = world.version
    world.asked.clear()
    with tab.expect_response(lambda answer: "/api/runs" in answer.url):
        tab.evaluate(ASK_NOW)
    tab.wait_for_timeout(200)  # in which nothing else is asked for
    assert set(world.asked) == {f"api/runs?after={first}"}
    world.bump("77ab")
    with tab.expect_response(lambda answer: "/api/series" in answer.url):
        tab.evaluate(ASK_NOW)
    assert f"api/series?runs=4042%2C77ab&after={first}&axis=epoch" in world.asked


def test_a_tab_that_is_not_looked_at_asks_less_and_in_the_end_no_more(page: Tab, world: World):
    page.tab.clock.install()
    tab = page.open("#/")

    def asks_after(seconds: int, times: int) -> None:
        """So often the page asks once so many seconds have gone."""
        world.asked.clear()
        tab.clock.fast_forward(seconds * 1000)
        wait_until(lambda: len(world.asked) >= times)
        tab.wait_for_timeout(200)  # in which the answer is read, and nothing more is asked
        assert len(world.asked) == times, seconds

    asks_after(1, 0)
    asks_after(2, 1)
    tab.evaluate("Object.defineProperty(document, 'hidden', {get: () => window.away ?? true})")
    for seconds, times in ((3, 1), (4, 0), (2, 1), (700, 1), (60, 0)):
        asks_after(seconds, times)
    tab.evaluate("window.away = false")
    with tab.expect_response(lambda answer: "/api/runs" in answer.url):
        tab.evaluate(ASK_NOW)
    tab.wait_for_timeout(200)
    asks_after(3, 1)
    asks_after(3, 1)


def test_a_database_that_begins_anew_is_read_anew(page: Tab, world: World):
    tab = page.open("#/")
    world.cards.clear()
    world.version, world.changed = 0, {}
    world.plant("next", title="another one")
    tab.evaluate(ASK_NOW)
    tab.get_by_text("another one").wait_for()
    assert tab.locator(".card").count() == 1


def test_stop_is_asked_twice_and_told_through_to_its_end(page: Tab, world: World):
    tab = page.open("#/run/4042")
    tab.get_by_role("button", name="Stop after this epoch").click()
    tab.get_by_role("button", name="Let it run").click()
    assert world.stops == []
    tab.get_by_role("button", name="Stop after this epoch").press("Enter")
    tab.get_by_role("button", name="Stop the run").click()
    tab.get_by_text("Stop is asked; the run has 15").wait_for()
    assert world.stops == ["4042"]
    assert not tab.get_by_role("button", name="Stop after this epoch").is_visible()

    world.cards["4042"]["stop"] |= {"state": "taken"}
    tell(world, tab, "it ends after this epoch")
    world.cards["4042"] |= {"state": "stopped", "stop": None}
    tell(world, tab, "stopped")
    assert tab.locator(".stopping").is_hidden()
    assert tab.locator("#said").inner_text() == "efficientnetv2-b0, 224 px: stopped."


def test_a_stop_that_was_not_taken_may_be_asked_again(page: Tab, world: World):
    world.cards["4042"]["stop"] = {"id": "1", "state": "asked", "expires": world.now - 1}
    tab = page.open("#/run/4042")
    assert tab.get_by_text("The run did not take the stop in time.").is_visible()
    tab.get_by_role("button", name="Ask again to stop").click()
    world.refusal = 503
    tab.get_by_role("button", name="Stop the run").click()
    tab.get_by_text("Not asked: not now.").wait_for()
    world.refusal = None
    page.unwanted.clear()  # Chromium tells of every refusal


def test_a_run_that_reads_no_commands_has_no_stop(page: Tab, world: World):
    world.plant("keras", source="keras", folds=0, fold=None)
    world.plant("import", source="import")
    tab = page.open("#/")
    assert tab.get_by_role("button", name="Stop after this epoch").count() == 2


def test_what_is_chosen_to_be_compared_is_drawn_in_other_ways(page: Tab):
    tab = page.open("#/", 1280)
    for box in tab.get_by_role("checkbox").all():
        box.check()
    tab.get_by_role("link", name="Compare 2 runs").click()
    tab.locator(".plot canvas").nth(7).wait_for()
    assert tab.locator(".names b").all_inner_texts() == ["A", "B"]
    plain = tab.evaluate(PICTURES)
    seen = [plain]
    for label in ("log loss", "best marked", "gap: validation − training"):
        tab.get_by_label(label).click()
        seen.append(tab.evaluate(PICTURES))
        told = tab.locator(".readout").first.inner_text()
        assert ("train" in told) == (not label.startswith("gap"))
        tab.get_by_label(label).click()
        assert tab.evaluate(PICTURES) == plain
    tab.get_by_label("smoothing").fill("0.8")
    seen.append(tab.evaluate(PICTURES))
    for axis in ("updates", "time"):
        with tab.expect_response(lambda answer: "/api/series" in answer.url):
            tab.get_by_text(axis, exact=True).click()
        wait_until(lambda: tab.evaluate(PICTURES)[0] not in {one[0] for one in seen})
        seen.append(tab.evaluate(PICTURES))
    assert len({one[0] for one in seen}) == len(seen)  # the loss of all folds
    assert "0.9109 ± 0.0022" in tab.get_by_role("region", name="Scores").inner_text()
    assert "light" in tab.get_by_role("region", name="Settings that differ").inner_text()


def test_the_cursor_is_at_the_same_epoch_in_all_charts_by_mouse_and_by_key(page: Tab):
    tab = page.open("#/compare?runs=4042,77ab", 1280)
    box = tab.locator(".u-over").first.bounding_box()
    tab.mouse.move(box["x"] + box["width"] / 2, box["y"] + 30)
    places = tab.locator(".readout .at").all_inner_texts()
    assert len(places) == 8
    assert len(set(places)) == 1
    assert places[0].startswith("epoch ")
    tab.mouse.move(5, 5)
    assert set(tab.locator(".readout .at").all_inner_texts()) == {"latest"}
    touch = {"pointerType": "touch", "clientX": box["x"] + 5, "clientY": box["y"]}
    tab.locator(".u-over").first.dispatch_event("pointermove", touch)
    assert set(tab.locator(".readout .at").all_inner_texts()) == {"epoch 1"}
    tab.mouse.move(6, 6)
    tab.locator(".u-over").first.dispatch_event("mouseleave")
    tab.locator(".plot").first.focus()
    for place in ("epoch 12", "epoch 11"):
        tab.keyboard.press("ArrowLeft")
        assert set(tab.locator(".readout .at").all_inner_texts()) == {place}


def test_a_dashboard_that_does_not_answer_is_said_and_its_data_stay(browser: Any, world: World):
    with serve_world(world) as address:
        one = Tab(browser.new_page(), address)
        tab = one.open("#/")
    tab.evaluate(ASK_NOW)
    tab.get_by_text("The dashboard does not answer, last data").wait_for()
    assert tab.locator("header").bounding_box()["height"] < 60  # still one line
    assert tab.locator(".card").count() == 2
    with serve_world(world, port=int(address.rsplit(":", 1)[1])):
        tab.evaluate(ASK_NOW)
        tab.locator("#banner").wait_for(state="hidden")
        world.plant("late", title="came later")
        tell(world, tab, "came later")
    assert {text.split(":", 1)[0] for text in one.unwanted} == {"Failed to load resource"}
    tab.close()


def test_what_cannot_be_read_costs_only_its_own_place(page: Tab, world: World):
    known = world.details["4042"]
    known["mistakes"], known["questions"] = {"pairs": [3], "weakest": "none"}, [{"options": 7}]
    known["log"], known["warnings"] = [{"text": {"a": 1}}], ["a plain one"]
    tab = page.open("#/run/4042")
    assert tab.get_by_text("What came cannot be shown").count() == 2
    assert tab.get_by_text("a plain one").is_visible()
    assert min(tab.evaluate(COUNT_INK)) > 100


def test_without_the_chart_library_all_but_the_charts_is_shown(page: Tab):
    page.tab.route("**/uPlot.iife.min.js", lambda route: route.fulfill(status=404))
    tab = page.open("#/run/4042")
    assert tab.get_by_text("The chart library is missing").count() == 4
    assert tab.get_by_text("365 of 4").is_visible()
    page.unwanted.clear()


def test_who_may_not_read_is_told_how_to(page: Tab, world: World):
    tab = page.open("#/")
    world.refusal = 401
    tab.evaluate(ASK_NOW)
    tab.get_by_text("open the link that the terminal shows").wait_for()
    page.unwanted.clear()


def test_without_runs_the_page_says_how_the_first_comes(page: Tab, world: World):
    world.cards.clear()
    tab = page.open("#/")
    assert "PODIUM_WEBHOOK" in tab.get_by_text("Start a run with the address").inner_text()
    world.plant("first", title="a first one")
    tell(world, tab, "a first one")
    assert not tab.get_by_text("No run has been heard of yet").is_visible()


def test_everything_can_be_reached_with_the_keyboard(page: Tab):
    tab = page.open("#/")
    reached = []
    for _ in range(10):
        tab.keyboard.press("Tab")
        reached.append(tab.evaluate("document.activeElement.textContent.slice(0, 16)"))
    assert reached[:4] == ["Podium", "Runs", "Compare", "Health"]
    assert {"Stop after this ", "efficientnetv2-b", "convnext-tiny, 2"} < set(reached)


def test_the_command_to_run_again_is_copied(page: Tab, browser: Any):
    browser.grant_permissions(["clipboard-read", "clipboard-write"], origin=page.address)
    tab = page.open("#/run/4042")
    tab.get_by_role("button", name="Copy").first.click()
    tab.get_by_text("Copied").wait_for()
    copied = tab.evaluate("navigator.clipboard.readText()")
    assert copied.startswith("python kernel/podium.py --pixels.image_size 384")


def test_curves_are_smoothed_and_put_together_as_they_should_be(page: Tab):
    find = page.open("#/").evaluate
    with_curves = "async () => { const c = await import('/page/curves.js'); return %s }"
    cases: dict[str, Any] = {
        "c.smooth({x: [1, 2, 3], y: [1, null, 3]}, 0.5).y": [1, None, pytest.approx(7 / 3)],
        "c.mean([{x: [1, 2], y: [1, 2]}, {x: [1], y: [3]}])": {"x": [1], "y": [2]},
        "c.gap({x: [1, 2], y: [5, 6]}, {x: [2], y: [4]}).y": [None, 2],
        "c.chain([{x: [1, 2], y: [5, 6]}, {x: [4], y: [7]}])": {
            "x": [1, 2, 3, 4],
            "y": [5, 6, None, 7],
        },
        "c.findBest({x: [1, 2, 3], y: [5, null, 4]}, false)": [3, 4],
        "[0, 2.5, 9, Infinity].map(at => c.valueAt({x: [1, 2, 3], y: [5, 6, 7]}, at))": [
            *(None, 6, None, 7),
        ],
        "c.trace({time: [30, 20], figures: {a: [3, 2]}}, 'a', 'time', 10)": {
            "x": [10, 20],
            "y": [2, 3],
        },
    }
    for asked, answer in cases.items():
        assert find(with_curves % asked) == answer, asked


def test_figures_and_times_are_written_as_people_read_them(page: Tab):
    find: Callable[[str], Any] = page.open("#/").evaluate
    with_words = "async () => { const w = await import('/page/words.js'); return w.%s }"
    cases = {
        "figure(0.91234)": "0.9123",
        "figure(-1234.5678)": "−1234.6",
        "figure(null)": "–",
        "figure(0.0000012)": "1.20e-6",
        "signed(0.0054)": "+0.0054",
        "count(1234567)": "1\u202f234\u202f567",
        "several(1, 'run')": "1 run",
        "duration(3599)": "1\u00a0h\u00a000",
        "duration(59.7)": "1\u00a0min",
        "ago(100, 112)": "12\u00a0s ago",
        "ago(null, 112)": "never",
        "bytes(999)": "999\u00a0bytes",
        "bytes(4567890)": "4.6\u00a0MB",
        "clean('a\\u202eb\\nc', 9)": "a\ufffdb\ufffdc",
        "clean('abcdef', 4)": "abc…",
    }
    assert {asked: find(with_words % asked) for asked in cases} == cases


def tell(world: World, tab: Any, words: str) -> None:
    """Makes the run news, and waits until the page says it."""
    world.bump(next(iter(world.cards)))
    tab.evaluate(ASK_NOW)
    tab.get_by_text(words).first.wait_for()
