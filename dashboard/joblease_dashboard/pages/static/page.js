// What all pages need besides htmx: times in the viewer's zone, a lamp for the live stream, and fresh content that
// follows the events without disturbing whoever reads.

const lamp = document.getElementById("live");
const clock = new Intl.DateTimeFormat(undefined, { timeStyle: "medium" });
const calendar = { month: "short", day: "numeric", hour: "numeric", minute: "2-digit", second: "2-digit" };

function length(seconds) {
  if (seconds < 60) return `${Math.floor(seconds)} s`;
  for (const [name, size, lesser, part] of [["d", 86400, "h", 3600], ["h", 3600, "min", 60], ["min", 60, "s", 1]]) {
    if (seconds < size) continue;
    const rest = Math.floor((seconds % size) / part);
    return `${Math.floor(seconds / size)} ${name}${rest ? ` ${rest} ${lesser}` : ""}`;
  }
}

function say(time) {
  const moment = new Date(time.dateTime), now = new Date();
  if (Number.isNaN(moment.getTime())) return;
  const year = moment.getFullYear() === now.getFullYear() ? undefined : "numeric";
  const text = "since" in time.dataset ? length(Math.max(0, (now - moment) / 1000))
    : moment.toDateString() === now.toDateString() ? clock.format(moment)
    : new Intl.DateTimeFormat(undefined, { year, ...calendar }).format(moment);
  if (time.textContent !== text) time.textContent = text;
}

function sayAll(root) {
  for (const time of root.querySelectorAll("time[datetime]")) say(time);
}

sayAll(document);
setInterval(() => {
  if (!document.hidden) for (const time of document.querySelectorAll("time[data-since]")) say(time);
}, 1000);
document.addEventListener("htmx:afterSettle", (event) => sayAll(event.target.parentNode ?? document));

// A job's history only grows: new rows come in at the top, and what was loaded before stays. When more has happened than
// the fresh page has rows, they are shown as on a page that was just opened.
let grown = false;

function grow(shown, fresh) {
  const newest = Number(shown.rows[0]?.dataset.sequence), rows = [...fresh.rows];
  const news = rows.filter((row) => Number(row.dataset.sequence) > newest);
  grown = news.length < rows.length || Number(rows.at(-1)?.dataset.sequence) === newest + 1;
  if (grown) {
    for (const row of news) sayAll(row);
    shown.prepend(...news);
  }
  return grown;
}

// Fresh content says its times before it is shown, so that nothing flickers; and leaves open what was opened.
if (window.Idiomorph) Object.assign(Idiomorph.defaults.callbacks, {
  beforeNodeMorphed: (shown, fresh) => {
    if (fresh.nodeName === "TIME") say(fresh);
    if (shown.id === "history") return !grow(shown, fresh);
    if (shown.id === "more" && shown.closest("#job")) return !grown;
  },
  beforeNodeAdded: (fresh) => { if (fresh.querySelectorAll) sayAll(fresh); },
  beforeAttributeUpdated: (name, node) => !(name === "open" && node.nodeName === "DETAILS"),
});

function show(on) {
  lamp.className = on ? "live on" : "live off";
  lamp.textContent = on ? "live" : "reconnecting";
}

// Shows a change a fifth of a second after its event, since the read model is written a moment later; at most once a
// second; and looks again when it is quiet, for what was written late. A page that nobody sees waits until it is seen.
let opened = 0;
let refreshed = -Infinity;
let soon, late;
const changed = new Set(); // jobs that something happened to

function refresh(everything = false) {
  clearTimeout(soon);
  soon = undefined;
  if (document.hidden) return;
  refreshed = performance.now();
  htmx.trigger(document.body, "joblease:refresh");
  for (const list of document.querySelectorAll("tbody[data-older]")) {
    if (everything || [...list.rows].some((row) => changed.has(row.dataset.job))) htmx.trigger(list, "joblease:page");
  }
}

// A browser has six connections to a server over HTTP/1.1, and a stream takes one: a page that nobody sees gives its stream
// back, and goes on after the last event that it heard of when it is seen again.
let stream, last;
if (window.htmx) htmx.createEventSource = (address) => {
  const url = new URL(address, location.href);
  if (last) url.searchParams.set("lastEventId", last);
  const opened = stream = new EventSource(url);
  if (document.hidden) queueMicrotask(() => opened.close());
  return opened;
};
document.addEventListener("visibilitychange", () => {
  if (!stream) return;
  if (document.hidden) stream.close();
  else if (stream.readyState === EventSource.CLOSED) htmx.trigger(document.querySelector("[sse-connect]"), "htmx:afterProcessNode");
});

document.addEventListener("htmx:sseMessage", ({ detail }) => {
  last = detail.lastEventId || last;
  if (detail.type !== "job") { // it was away for longer than events are kept, or the broker does not answer, or does again
    const stale = detail.type === "stale";
    document.getElementById("stale").hidden = !stale;
    if (!stale) refresh(true);
    return;
  }
  changed.add(JSON.parse(detail.data).jobId);
  soon ??= setTimeout(refresh, Math.max(200, refreshed + 1000 - performance.now()));
  clearTimeout(late);
  late = setTimeout(() => {
    refresh();
    if (!document.hidden) changed.clear();
  }, 1500);
});
document.addEventListener("visibilitychange", () => refresh());
document.addEventListener("htmx:sseOpen", () => {
  show(true);
  if (opened++) refresh(true); // whatever was missed is on the fresh page
});
document.addEventListener("htmx:sseError", () => show(false));
