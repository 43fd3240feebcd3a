// Loaded into Azurite before its own code: leases outlive its restart.
//
// Azurite 3.37 keeps its metadata as JSON (LokiJS) and reads the end of a lease back as text. A comparison of a date with
// text is false, so that after a restart every lease counts as expired, whatever is left of its time: somebody else gets
// it under a living holder. Azure storage does not do that, and JobLease rests on it.
"use strict";

const MOMENTS = /"lease(Expire|Break)Time"/;
const revive = (key, value) => (MOMENTS.test(`"${key}"`) && typeof value === "string" ? new Date(value) : value);
const parse = JSON.parse;

JSON.parse = (text, reviver) => parse(text, reviver || (MOMENTS.test(text) ? revive : undefined));
