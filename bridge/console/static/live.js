// The tail. While it is paused there is no stream, and RabbitMQ has no queue for it.
"use strict";
{
  const MOST_ROWS = 300;
  const table = document.getElementById("live");
  const rows = document.getElementById("live-rows");
  const empty = document.getElementById("live-empty");
  const state = document.getElementById("live-state");
  const pause = document.getElementById("pause");
  const clear = document.getElementById("clear");
  const filters = document.getElementById("live-filters");
  let source = null;

  const say = (text) => {
    if (state.textContent !== text) state.textContent = text;
  };

  const query = () => {
    const chosen = new URLSearchParams(new FormData(filters));
    if (!chosen.get("contains")) chosen.delete("contains");
    return chosen.toString();
  };

  const stop = () => {
    source?.close();
    source = null;
  };

  const start = () => {
    stop();
    say("Connecting…");
    source = new EventSource(`${table.dataset.stream}?${query()}`);
    source.addEventListener("rows", (event) => {
      rows.insertAdjacentHTML("afterbegin", event.data);
      while (rows.rows.length > MOST_ROWS) rows.deleteRow(-1);
      empty.hidden = true;
    });
    source.addEventListener("state", (event) => {
      const told = JSON.parse(event.data);
      say(told.up ? "Live." : `Waiting for RabbitMQ: ${told.reason}. It is tried again by itself.`);
    });
    source.addEventListener("refused", (event) => {
      stop();
      say(event.data);
      show(false);
    });
    source.addEventListener("error", () => {
      if (source) say("The console does not answer. It is tried again by itself.");
    });
    show(true);
  };

  const show = (running) => {
    pause.textContent = running ? "Pause" : "Go on";
  };

  pause.addEventListener("click", () => {
    if (!source) {
      start();
      return;
    }
    stop();
    show(false);
    say("Paused. What comes in meanwhile is not shown here.");
  });
  clear.addEventListener("click", () => {
    rows.replaceChildren();
    empty.hidden = false;
  });
  const filtered = () => {
    const chosen = query();
    history.replaceState(null, "", chosen ? `?${chosen}` : location.pathname);
    rows.replaceChildren();
    empty.hidden = false;
    if (source) start();
  };
  filters.addEventListener("change", filtered);
  filters.addEventListener("submit", (event) => {
    event.preventDefault();
    filtered();
  });
  addEventListener("pagehide", stop);
  addEventListener("pageshow", (event) => {
    if (event.persisted) start();
  });

  pause.disabled = clear.disabled = false;
  start();
}
