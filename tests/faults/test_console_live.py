"""The tail in a real Chromium: filters, pause, and RabbitMQ that goes away and comes back."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from playwright.async_api import expect

from bridge.broker import declaring
from bridge.broker.topology_plan import planned_topology
from bridge.settings.loading import load_settings
from tests.support.archiving import archive
from tests.support.browser import axe_script, running_browser, window
from tests.support.console import TOKENS, console_client, serving_console
from tests.support.proxy import Proxy
from tests.support.server_sent import event_stream
from tests.support.working import body_of, changed

if TYPE_CHECKING:
    from pathlib import Path

    from bridge.settings.sections import Settings
    from tests.support.rabbit import Rabbit

AT = 1_750_000_000_000


async def test_the_tail_is_filtered_and_paused_by_keyboard(
    overrides: dict[str, dict[str, Any]], rabbit: Rabbit, settings: Settings, npm_packages: Path
) -> None:
    """While it is paused it stays as it is; while RabbitMQ is away it says so, and it goes on by itself."""
    await declaring.declare(rabbit.connection, planned_topology(settings))

    async def come_in(*bodies: bytes) -> None:
        await archive(rabbit, settings, [(body, AT) for body in bodies])

    url = settings.rabbitmq.urls[0].get_secret_value()
    async with Proxy.serve(url) as proxy:
        own = changed(overrides, api={"port": 0, "tokens": TOKENS}, rabbitmq={"urls": [proxy.url(url)]})
        async with (
            serving_console(load_settings(overrides=own)) as client,
            running_browser() as browser,
            window(browser, client.base) as shown,
            console_client(client.base) as other,
        ):
            page, rows = shown.page, shown.page.locator("#live-rows tr")
            await shown.sign_in(path="/live")
            state = page.locator("#live-state")
            await expect(state).to_have_text("Live.")
            await come_in(body_of("opened", 1), body_of("clicked", 2))
            await expect(rows).to_have_count(2)
            await expect(rows.first).to_contain_text("clicked")
            await shown.check(axe_script(npm_packages))

            await page.get_by_label("opened", exact=True).focus()
            await page.keyboard.press("Space")
            await expect(page).to_have_url(f"{client.base}/live?event=opened")
            await expect(state).to_have_text("Live.")
            await come_in(body_of("clicked", 3), body_of("opened", 4))
            await expect(rows).to_have_count(1)
            await expect(rows.first).to_contain_text("opened")

            await page.get_by_role("button", name="Pause").focus()
            await page.keyboard.press("Enter")
            await expect(state).to_contain_text("Paused")
            await other.sign_in()
            async with event_stream(other, "/live/events") as watching:
                await watching.until("state", '"up":true')
                await come_in(body_of("opened", 5))
                await watching.until("rows", "opened")
            await expect(rows).to_have_count(1)
            await page.keyboard.press("Enter")
            await expect(state).to_have_text("Live.")

            proxy.refuse()
            await expect(state).to_contain_text("Waiting for RabbitMQ")
            proxy.accept()
            await expect(state).to_have_text("Live.", timeout=20_000)
            await come_in(body_of("opened", 6))
            await expect(rows).to_have_count(2)
