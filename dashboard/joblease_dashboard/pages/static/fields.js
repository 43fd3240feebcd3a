// Fields for a moment: chosen in the viewer's zone, sent in UTC as the API wants it. Empty fields are left out of the
// address, so that it can be shared.

function local(moment) {
  return new Date(moment - moment.getTimezoneOffset() * 60_000).toISOString().slice(0, 19);
}

for (const field of document.querySelectorAll("input[data-moment]")) {
  const moment = new Date(field.value);
  field.type = "datetime-local";
  field.step = "any";
  field.value = Number.isNaN(moment.getTime()) ? "" : local(moment);
}

document.addEventListener("formdata", ({ formData, target }) => {
  for (const { name, value } of target.querySelectorAll("input[data-moment]")) {
    if (value) formData.set(name, new Date(value).toISOString());
  }
  if (target.method !== "get") return;
  for (const [name, value] of [...formData]) if (!value) formData.delete(name);
});
