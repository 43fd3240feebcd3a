// What the pages need besides htmx: times in the viewer's zone, a lamp for the live stream, a look after a reconnect.
"use strict";

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

let opened = 0;
document.addEventListener("htmx:sseOpen", () => {
  show(true);
  if (opened++) htmx.trigger(document.body, "joblease:again"); // whatever was missed is on the fresh page
});
document.addEventListener("htmx:sseError", () => show(false));
document.addEventListener("htmx:afterSettle", (event) => localTimes(event.target.parentNode ?? document));
localTimes(document);
