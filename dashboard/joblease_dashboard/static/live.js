// Keeps a page up to date: when an event arrives, the page is fetched again and its live part is exchanged. The server
// stays the only place that knows how things look, and a page without scripts shows the same.
"use strict";

const main = document.querySelector("main[data-stream]");
const lamp = document.getElementById("live");
const SETTLE_MS = 300;     // events come in bursts
const INDEX_MS = 1500;     // lists are written a moment after the event: look once more
let waiting = null;
let again = null;

function localTimes(root) {
  for (const time of root.querySelectorAll("time[datetime]")) {
    const moment = new Date(time.dateTime);
    if (!Number.isNaN(moment.getTime())) {
      time.textContent = moment.toLocaleString(undefined, { dateStyle: "short", timeStyle: "medium" });
    }
  }
}

async function refresh() {
  waiting = null;
  let answer;
  try {
    answer = await fetch(location.href, { headers: { Accept: "text/html" } });
  } catch {
    return; // the lamp tells
  }
  if (!answer.ok) return;
  const page = new DOMParser().parseFromString(await answer.text(), "text/html");
  for (const old of document.querySelectorAll("[data-live]")) {
    const fresh = page.querySelector(`[data-live="${old.dataset.live}"]`);
    if (fresh && fresh.innerHTML !== old.dataset.shown) {
      const shown = fresh.innerHTML;
      localTimes(fresh);
      const focused = document.activeElement?.getAttribute("href");
      const left = old.querySelector(".scroll")?.scrollLeft ?? 0;
      old.replaceChildren(...fresh.childNodes);
      old.dataset.shown = shown;
      if (left) old.querySelector(".scroll").scrollLeft = left;
      if (focused) old.querySelector(`a[href="${CSS.escape(focused)}"]`)?.focus();
    }
  }
}

function soon() {
  waiting ??= setTimeout(refresh, SETTLE_MS);
  clearTimeout(again);
  again = setTimeout(refresh, INDEX_MS);
}

function show(on) {
  lamp.className = on ? "live on" : "live off";
  lamp.textContent = on ? "live" : "reconnecting";
}

localTimes(document);
if (main) {
  const stream = new EventSource(main.dataset.stream);
  stream.onopen = () => show(true);
  stream.onerror = () => show(false);
  stream.addEventListener("job", soon);
  addEventListener("pagehide", () => stream.close());
}
