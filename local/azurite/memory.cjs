// Loaded into an Azurite that keeps everything in memory, before its own code: it does not collect garbage.
//
// Azurite 3.37 looks for blobs' contents that nobody needs each ten minutes, and deletes each with a search of all, in one
// turn of its event loop. After some thousand jobs it answers nobody for half a minute. Azure storage does not do that.
"use strict";

const path = require("node:path");
const NEVER = 2 ** 31 - 1; // as long as a timer can wait, in ms: 25 days

require(path.join(path.dirname(process.argv[1]), "blob", "utils", "constants.js")).DEFAULT_GC_INTERVAL_MS = NEVER;
