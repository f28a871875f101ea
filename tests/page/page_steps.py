"""What several tests of the monitor page do in the same way."""

import time

from mock_gateway import PAGE

SOURCES = sorted(path for path in PAGE.iterdir() if path.suffix in (".js", ".css", ".html"))

NETWORK = ["ERR_CONNECTION_REFUSED", "ERR_INCOMPLETE_CHUNKED", "ERR_CONNECTION_RESET",
           "ERR_EMPTY_RESPONSE"]
"""What the browser's console says of a gateway that has gone."""


def feed_delays(page, send, times=3):
    """How long it takes from send(i) until the event stands in the feed, in ms, each of so many
    times: the machine may be busy, and then the least of them counts."""
    page.js("""window.seen = [];
        new MutationObserver(() => window.seen.push(Date.now()))
            .observe(document.getElementById('feed-list'), {childList: true});""")
    delays = []
    for i in range(times):
        sent = time.time() * 1000
        send(i)
        page.wait_for("return window.seen.length > arguments[0]", i)
        delays.append(page.js("return window.seen[arguments[0]]", i) - sent)
    return delays


def tool_cards(page):
    return page.js("""return [...document.querySelectorAll('.tool')].map((one) => [
        one.querySelector('.name').textContent, one.dataset.state,
        one.querySelector('.state').textContent.replaceAll('\\u00a0', ' '),
        one.querySelector('.more').textContent])""")
