// Lists that grow at both ends: older rows are appended when one has scrolled to them, new ones come in at the top.
//
// Each page of rows is a tbody that is fetched anew by itself. Once another one follows, a page is asked for as everything
// down to where it ended when that one was loaded: nothing falls into a gap between them, nothing is shown twice.

const LONGEST = 1000; // rows that the server gives at once

document.addEventListener("htmx:configRequest", ({ detail }) => {
  const list = detail.elt;
  if (list.nodeName !== "TBODY" || !list.nextElementSibling) return;
  list.end ??= list.rows[list.rows.length - 1]?.dataset.moment;
  if (!list.end) return;
  detail.parameters.from = list.end;
  detail.parameters.page_size = LONGEST;
});

document.addEventListener("htmx:afterSettle", ({ target }) => {
  if (target.nodeName === "TBODY" && target.nextElementSibling && target.rows.length >= LONGEST) location.reload();
});
