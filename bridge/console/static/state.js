// For pages that keep themselves up to date: how old what they show is, and whether the console still speaks to them.
"use strict";
{
  const SILENT_SECONDS = 30;
  const UNITS = [[86400, "d"], [3600, "h"], [60, "min"], [1, "s"]];
  let serverAhead = 0; // seconds by which the server's clock is ahead of the browser's
  let heard = performance.now();

  const duration = (seconds) => {
    let left = Math.max(Math.round(seconds), 0);
    const parts = [];
    for (const [size, unit] of UNITS) {
      if (left >= size || (size === 1 && parts.length === 0)) {
        parts.push(`${Math.floor(left / size)} ${unit}`);
        left %= size;
      } else if (parts.length > 0) break;
    }
    return parts.slice(0, 2).join(" ");
  };

  const tick = () => {
    const now = Date.now() / 1000 + serverAhead;
    for (const ago of document.querySelectorAll(".ago[data-at]")) {
      const text = ` (${duration(now - Number(ago.dataset.at))} ago)`;
      if (ago.textContent !== text) ago.textContent = text;
    }
    const silent = (performance.now() - heard) / 1000;
    const unheard = document.getElementById("unheard");
    if (!unheard) return;
    if (silent < SILENT_SECONDS) unheard.hidden = true;
    else {
      const text = "This page has heard nothing from the console for a while: it does not answer, or the network is cut. What you see is old.";
      if (unheard.hidden || unheard.textContent !== text) {
        unheard.textContent = text;
        unheard.hidden = false;
      }
    }
  };

  // A part that is replaced keeps open what was open in it.
  const open = new Set();
  document.addEventListener("htmx:sseBeforeMessage", (event) => {
    heard = performance.now();
    for (const part of event.target.querySelectorAll("details[id]")) {
      if (part.open) open.add(part.id);
      else open.delete(part.id);
    }
  });
  document.addEventListener("htmx:sseMessage", (event) => {
    for (const part of event.target.querySelectorAll("details[id]")) part.open = open.has(part.id);
    tick();
  });
  const seenAt = ({ at, now }) => {
    heard = performance.now();
    serverAhead = now - Date.now() / 1000;
    const seen = document.getElementById("seen");
    if (seen && at) {
      const time = new Date(at * 1000).toISOString();
      let element = seen.querySelector("time");
      if (!element) {
        seen.innerHTML = 'Seen <time></time><span class="ago"></span>';
        element = seen.querySelector("time");
      }
      element.dateTime = `${time.slice(0, 19)}Z`;
      element.textContent = `${time.slice(11, 19)} UTC`;
      seen.querySelector(".ago").dataset.at = at;
    }
    tick();
  };
  const known = new WeakSet();
  document.addEventListener("htmx:sseOpen", (event) => {
    const source = event.detail.source;
    if (known.has(source)) return;
    known.add(source);
    source.addEventListener("seen", (message) => seenAt(JSON.parse(message.data)));
    source.addEventListener("point", (message) => {
      document.dispatchEvent(new CustomEvent("console:point", { detail: JSON.parse(message.data) }));
    });
  });

  setInterval(tick, 1000);
  tick();
}
