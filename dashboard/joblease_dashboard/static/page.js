// What the pages need besides htmx: times in the viewer's zone, a lamp for the live stream, a look after a reconnect.

const lamp = document.getElementById("live");

function localTimes(root) {
  for (const time of root.querySelectorAll("time[datetime]")) {
    const moment = new Date(time.dateTime);
    if (!Number.isNaN(moment.getTime())) {
      const text = moment.toLocaleString(undefined, { dateStyle: "short", timeStyle: "medium" });
      if (time.textContent !== text) time.textContent = text;
    }
  }
}

function show(on) {
  lamp.className = on ? "live on" : "live off";
  lamp.textContent = on ? "live" : "reconnecting";
}

// Shows a change a fifth of a second after its event, since the read model is written a moment later; at most once a
// second; and looks again when it is quiet, for what was written late. A page that nobody sees waits until it is seen.
let opened = 0;
let refreshed = -Infinity;
let soon, late;

function refresh() {
  clearTimeout(soon);
  soon = undefined;
  if (document.hidden) return;
  refreshed = performance.now();
  htmx.trigger(document.body, "joblease:refresh");
}

document.addEventListener("htmx:sseMessage", () => {
  soon ??= setTimeout(refresh, Math.max(200, refreshed + 1000 - performance.now()));
  clearTimeout(late);
  late = setTimeout(refresh, 1500);
});
document.addEventListener("visibilitychange", refresh);
document.addEventListener("htmx:sseOpen", () => {
  show(true);
  if (opened++) refresh(); // whatever was missed is on the fresh page
});
document.addEventListener("htmx:sseError", () => show(false));
document.addEventListener("htmx:afterSettle", (event) => localTimes(event.target.parentNode ?? document));
localTimes(document);
