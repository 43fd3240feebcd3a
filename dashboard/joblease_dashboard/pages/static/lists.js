// Lists that grow at both ends: older rows are appended when one has scrolled to them, new ones come in at the top.
//
// Each page of rows is a tbody that is fetched anew by itself. Once another one follows, a page is asked for as everything
// down to where it ended when that one was loaded: nothing falls into a gap between them, nothing is shown twice.

const LONGEST = 1000; // rows that the server gives at once

function pinned(list) {
  return list.nodeName === "TBODY" && list.nextElementSibling !== null;
}

document.addEventListener("htmx:configRequest", ({ detail }) => {
  const list = detail.elt;
  if (!pinned(list)) return;
  list.end ??= list.rows[list.rows.length - 1]?.dataset.moment;
  if (!list.end) return;
  detail.parameters.from = list.end;
  detail.parameters.page_size = LONGEST;
});

// An answer that does not reach down to the end, because a search took long, would tear a gap: the next one may do better.
document.addEventListener("htmx:beforeSwap", ({ detail }) => {
  if (!pinned(detail.target) || !detail.serverResponse.includes('id="older"')) return;
  const rows = detail.serverResponse.split("<tr data-").length - 1;
  if (rows >= LONGEST) location.reload();
  if (rows < detail.target.rows.length) detail.shouldSwap = false;
});
